// The bars of the page: which times there are, and which row of each layer belongs to which bar.
//
// A row belongs to the bar in which it became known: a five-minute signal stands on the last minute
// of its bar. Minutes without trades are empty bars; longer holes are left out and marked.

const LONGEST_HOLE_S = 7200;
const MINUTE_LAYERS = ["flow_1m", "micro_1m", "buckets_1m", "orderflow_1m"];

class Frame {
  constructor(store, timeframe) {
    this.store = store;
    this.timeframe = timeframe;
    this.step = STEPS[timeframe];
    this.bars = `bars_${timeframe}`;
    this.place();
    this.lasts = new Map();
    this.standing = new Map();
  }

  // Times of all bars, and before which of them a hole was left out.
  place() {
    const own = this.store.rows(this.bars).at;
    const others = this.step === 60 || !own.length ? MINUTE_LAYERS : [];
    const times = new Set(own);
    for (const layer of others) {
      for (const at of this.store.rows(layer).at) times.add(Math.floor(at / this.step) * this.step);
    }
    this.slots = [];
    this.cuts = [];
    let before = null;
    for (const at of [...times].sort((a, b) => a - b)) {
      if (before !== null && at - before > LONGEST_HOLE_S) {
        this.cuts.push({ slot: this.slots.length, from: before + this.step, to: at });
      } else if (before !== null) {
        for (let t = before + this.step; t < at; t += this.step) this.slots.push(t);
      }
      this.slots.push(at);
      before = at;
    }
    this.index = new Map(this.slots.map((at, slot) => [at, slot]));
  }

  slotOf(at) {
    return this.index.get(Math.floor(at / this.step) * this.step);
  }

  // When a row became known: the end of its cell, or the time of an event.
  known(layer, at) {
    const span = HEAD.spans[layer] ?? 0;
    return span ? at + span - 0.001 : at;
  }

  // By bar, the number of the last row of a layer that became known in it, or -1.
  last(layer) {
    if (!this.lasts.has(layer)) {
      const found = new Int32Array(this.slots.length).fill(-1);
      this.store.rows(layer).at.forEach((at, row) => {
        const slot = this.slotOf(this.known(layer, at));
        if (slot !== undefined) found[slot] = row;
      });
      this.lasts.set(layer, found);
    }
    return this.lasts.get(layer);
  }

  // By bar, the number of the last row that was known at its end; sessions begin anew at midnight.
  asOf(layer, isSession) {
    if (!this.standing.has(layer)) {
      const own = this.last(layer);
      const found = new Int32Array(own.length);
      let row = -1;
      for (let slot = 0; slot < own.length; slot++) {
        if (isSession && slot && this.isNewDay(slot)) row = -1;
        if (own[slot] >= 0) row = own[slot];
        found[slot] = row;
      }
      this.standing.set(layer, found);
    }
    return this.standing.get(layer);
  }

  isNewDay(slot) {
    return slot > 0 && Math.floor(this.slots[slot] / DAY_S) !== Math.floor(this.slots[slot - 1] / DAY_S);
  }

  isCut(slot) {
    return this.cuts.some((cut) => cut.slot === slot);
  }

  // The rows of a minute layer that lie within a bar: first and past the last.
  within(layer, slot) {
    const { at } = this.store.rows(layer);
    const from = lowerBound(at, this.slots[slot]);
    return [from, lowerBound(at, this.slots[slot] + this.step)];
  }

  // By bar, the number of the row of a minute layer with the largest value above 0, or -1.
  most(layer, column) {
    const key = `${layer} ${column}`;
    if (!this.lasts.has(key)) {
      const found = new Int32Array(this.slots.length).fill(-1);
      const { at, [column]: values = [] } = this.store.rows(layer);
      values.forEach((value, row) => {
        const slot = this.slotOf(at[row]);
        if (!value || slot === undefined) return;
        if (found[slot] < 0 || value >= values[found[slot]]) found[slot] = row;
      });
      this.lasts.set(key, found);
    }
    return this.lasts.get(key);
  }

  value(layer, column, row) {
    const values = this.store.layers[layer]?.[column];
    return values && row >= 0 ? values[row] : null;
  }
}

function lowerBound(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
