// What is drawn on the price pane besides series: walls, wicks, marks, holes and midnights.

// Something that draws itself into a pane, below (`bottom`) or above (`top`) the series.
function primitive(layer, draw) {
  const view = {
    zOrder: () => layer,
    renderer: () => ({
      draw: (target) => {
        target.useMediaCoordinateSpace(({ context, mediaSize }) => {
          context.save();
          draw(context, mediaSize);
          context.restore();
        });
      },
    }),
  };
  return { paneViews: () => [view] };
}

const MARK_PX = 6;
const STACK_PX = 15;
const CROWDED_PX = 2.5;
const MINOR = ["absorption", "divergence", "warning"];

// Draws on the price pane of a chart; `shown` says whether a part or a kind of event is on.
class Overlay {
  constructor(chart, candles, colors, shown) {
    Object.assign(this, { chart, candles, colors, shown });
    this.frame = null;
    this.events = new Map();
    this.wicks = [];
    candles.attachPrimitive(primitive("bottom", (context, area) => this.below(context, area)));
    candles.attachPrimitive(primitive("top", (context, area) => this.above(context, area)));
  }

  fill(frame, events) {
    this.frame = frame;
    this.events = events;
    this.wicks = wickLevels(frame.store);
    const walls = frame.store.rows("buckets_1m");
    this.largestWall = 1;
    for (const side of ["bid_wall", "ask_wall"]) {
      for (const notional of walls[side] ?? []) this.largestWall = Math.max(this.largestWall, notional);
    }
  }

  x(slot) {
    return this.chart.timeScale().logicalToCoordinate(slot);
  }

  y(value) {
    return this.candles.priceToCoordinate(value);
  }

  // First and last bar in sight.
  sight() {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (!range || !this.frame) return [0, -1];
    const last = this.frame.slots.length - 1;
    return [Math.max(0, Math.floor(range.from)), Math.min(last, Math.ceil(range.to))];
  }

  spacing() {
    return this.chart.timeScale().options().barSpacing;
  }

  below(context, area) {
    const [first, last] = this.sight();
    this.midnights(context, area, first, last);
    if (this.shown("whale")) this.whales(context, first, last);
    if (this.shown("walls")) this.walls(context, first, last);
    if (this.shown("wicks") || this.shown("touched")) this.levels(context, area);
    if (this.shown("poor")) this.extremes(context, area);
  }

  above(context) {
    const [first, last] = this.sight();
    this.marks(context, first, last);
  }

  midnights(context, area, first, last) {
    context.font = `10px ${FONT}`;
    context.fillStyle = this.colors.muted;
    context.strokeStyle = this.colors.border;
    const line = (x) => {
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, area.height);
      context.stroke();
    };
    for (let slot = Math.max(1, first); slot <= last; slot++) {
      if (!this.frame.isNewDay(slot)) continue;
      context.setLineDash([]);
      line(Math.round(this.x(slot) - this.spacing() / 2) + 0.5);
    }
    context.setLineDash([2, 3]);
    for (const cut of this.frame.cuts) {
      if (cut.slot < first || cut.slot > last) continue;
      const x = Math.round(this.x(cut.slot) - this.spacing() / 2) + 0.5;
      line(x);
      context.fillText(`${lasting(cut.to - cut.from)} without rows left out`, x + 4, area.height - 6);
    }
  }

  // The largest wall of each bar and side; the larger, the thicker and brighter.
  walls(context, first, last) {
    const walls = this.frame.store.rows("buckets_1m");
    if (!walls.at.length) return;
    const wide = Math.max(2, this.spacing());
    for (const side of ["bid", "ask"]) {
      const rows = this.frame.most("buckets_1m", `${side}_wall`);
      context.fillStyle = this.colors[`${side}Wall`];
      for (let slot = first; slot <= last; slot++) {
        const row = rows[slot];
        const value = row < 0 ? null : walls[`${side}_wall_price`][row];
        if (value === null) continue;
        const share = Math.sqrt(walls[`${side}_wall`][row] / this.largestWall);
        const y = this.y(value);
        if (y === null) continue;
        const tall = 2 + 4 * share;
        context.globalAlpha = 0.35 + 0.55 * share;
        context.fillRect(this.x(slot) - wide / 2, y - tall / 2, wide, tall);
      }
    }
    context.globalAlpha = 1;
  }

  // Where a time lies, also one before or between the bars.
  xAt(at) {
    const { slots } = this.frame;
    return this.x(Math.min(slots.length - 1, lowerBound(slots, Math.floor(at / this.frame.step) * this.frame.step)));
  }

  levels(context, area) {
    const { slots } = this.frame;
    if (!slots.length) return;
    context.lineWidth = 1;
    for (const wick of this.wicks) {
      const isOpen = wick.until === null;
      if (!this.shown(isOpen ? "wicks" : "touched")) continue;
      const y = this.y(wick.price);
      if (y === null || y < 0 || y > area.height) continue;
      const from = Math.max(0, wick.from < slots[0] ? 0 : this.xAt(wick.from));
      const to = isOpen ? area.width : this.xAt(wick.until);
      if (to <= from) continue;
      context.strokeStyle = this.colors.wick;
      context.globalAlpha = isOpen ? 0.9 : 0.35;
      context.setLineDash(isOpen ? [5, 4] : [1, 3]);
      context.beginPath();
      context.moveTo(from, Math.round(y) + 0.5);
      context.lineTo(to, Math.round(y) + 0.5);
      context.stroke();
    }
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  // How the session's high and low stand, as of the last half hour in sight.
  extremes(context, area) {
    const rows = this.frame.asOf("extremes_30m", true);
    const [first, last] = this.sight();
    const row = last < first ? -1 : rows[last];
    if (row < 0) return;
    context.font = `10px ${FONT}`;
    context.fillStyle = context.strokeStyle = this.colors.poor;
    for (const side of ["high", "low"]) {
      const read = (column) => this.frame.value("extremes_30m", column, row);
      const words = [];
      if (read(`poor_${side}`)) words.push(`poor ${side}, ${read(`${side}_tpo`)} half hours`);
      if (read(`unfinished_${side}`)) words.push(`unfinished ${side}`);
      const y = this.y(read(`session_${side}`));
      if (!words.length || y === null) continue;
      context.setLineDash([8, 3]);
      context.beginPath();
      context.moveTo(0, Math.round(y) + 0.5);
      context.lineTo(area.width, Math.round(y) + 0.5);
      context.stroke();
      context.fillText(words.join(", "), area.width * 0.5, side === "high" ? y - 4 : y + 12);
    }
    context.setLineDash([]);
  }

  marks(context, first, last) {
    const bars = this.frame.store.rows(this.frame.bars);
    const rows = this.frame.last(this.frame.bars);
    context.font = `10px ${FONT}`;
    for (let slot = first; slot <= last; slot++) {
      const events = this.events.get(slot)?.filter((event) => this.shown(event.kind));
      const row = rows[slot];
      if (!events?.length) continue;
      const x = this.x(slot);
      const edges = {
        above: row < 0 ? 20 : this.y(bars.high[row]),
        below: row < 0 ? 40 : this.y(bars.low[row]),
      };
      const stacked = { above: 0, below: 0 };
      for (const [event, count] of alike(events)) {
        if (!(event.side in stacked)) continue;
        if (MINOR.includes(event.kind) && this.spacing() < CROWDED_PX) {
          this.dot(context, event, x, edges[event.side] + (event.side === "above" ? -4 : 4));
          continue;
        }
        const away = MARK_PX + 5 + STACK_PX * stacked[event.side]++;
        const y = event.side === "above" ? edges.above - away : edges.below + away;
        drawGlyph(context, event, x, y, this.colors);
        if (count > 1 && this.spacing() > 5) context.fillText(count, x + MARK_PX + 1, y + 3);
      }
    }
  }

  // What is left of a mark where bars are too narrow for it.
  dot(context, event, x, y) {
    context.fillStyle = this.colors[event.kind];
    context.beginPath();
    context.arc(x, y, 1.8, 0, 2 * Math.PI);
    context.fill();
  }

  whales(context, first, last) {
    for (let slot = first; slot <= last; slot++) {
      const event = this.events.get(slot)?.find((each) => each.kind === "whale");
      if (event) this.whale(context, event, this.x(slot));
    }
  }

  whale(context, event, x) {
    const y = this.y(event.price);
    if (y === null) return;
    const radius = Math.min(22, 4 + 3.5 * Math.sqrt(event.notional / (HEAD.parameters.bars?.whale_notional ?? 1e5)));
    context.setLineDash([]);
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.fillStyle = context.strokeStyle = directed(event.direction, this.colors);
    context.globalAlpha = 0.25;
    context.fill();
    context.globalAlpha = 0.9;
    context.lineWidth = 1.5;
    context.stroke();
    context.globalAlpha = 1;
  }
}

// Events that would look the same, once, and how many there are.
function alike(events) {
  const found = new Map();
  for (const event of events) {
    const key = `${event.kind} ${event.side} ${event.direction}`;
    found.set(key, [event, (found.get(key)?.[1] ?? 0) + 1]);
  }
  return found.values();
}

function directed(direction, colors) {
  return { LONG: colors.up, SHORT: colors.down }[direction] ?? colors.warning;
}

// Triangles are signals (hollow: filtered), stars rules, rings absorption, diamonds divergence.
function drawGlyph(context, event, x, y, colors) {
  const up = event.side === "below" ? -1 : 1;
  context.lineWidth = 1.5;
  context.beginPath();
  if (event.kind === "signal" || event.kind === "filtered") {
    context.moveTo(x, y + up * MARK_PX);
    context.lineTo(x - MARK_PX, y - up * MARK_PX);
    context.lineTo(x + MARK_PX, y - up * MARK_PX);
    context.closePath();
    context.fillStyle = context.strokeStyle = directed(event.direction, colors);
    if (event.kind === "signal") context.fill();
  } else if (event.kind === "rule") {
    for (let i = 0; i < 10; i++) {
      const far = i % 2 ? MARK_PX * 0.5 : MARK_PX * 1.25;
      const angle = (Math.PI * i) / 5 - Math.PI / 2;
      context.lineTo(x + far * Math.cos(angle), y + far * Math.sin(angle));
    }
    context.closePath();
    context.fillStyle = context.strokeStyle = colors.rule;
    context.fill();
  } else if (event.kind === "absorption") {
    context.arc(x, y, MARK_PX - 2, 0, 2 * Math.PI);
    context.strokeStyle = colors.absorption;
    context.lineWidth = 2.5;
  } else {
    context.moveTo(x, y - MARK_PX + 1);
    context.lineTo(x + MARK_PX - 1, y);
    context.lineTo(x, y + MARK_PX - 1);
    context.lineTo(x - MARK_PX + 1, y);
    context.closePath();
    context.fillStyle = context.strokeStyle = colors[event.kind];
    if (event.kind === "divergence") context.fill();
  }
  context.stroke();
}

// Levels that wicks have left: from when, until when they were touched (null: not yet), and where.
function wickLevels(store) {
  const found = new Map();
  const wicks = store.rows("wicks_5m");
  const span = HEAD.spans.wicks_5m;
  const expires = (HEAD.parameters.wicks?.expiry_days ?? 7) * DAY_S;
  const level = (side, value, from) => {
    const key = `${side} ${value} ${from}`;
    if (!found.has(key)) found.set(key, { side, price: value, from, until: null });
    return found.get(key);
  };
  for (const row of store.events("wicks")) {
    for (const side of ["high", "low"]) {
      for (const each of row[`untouched_${side}s`]) level(side, each.price, seconds(each.created_utc));
    }
  }
  wicks.at.forEach((at, i) => {
    for (const side of ["high", "low"]) {
      const value = wicks[`wick_${side}`][i];
      if (value !== null) level(side, value, at);
    }
    for (const each of wicks.touched[i]) {
      level(each.side, each.price, seconds(each.created_utc)).until = at;
    }
  });
  const end = wicks.at.length ? wicks.at[wicks.at.length - 1] + span : 0;
  for (const each of found.values()) {
    if (each.until === null && each.from + expires <= end) each.until = each.from + expires;
  }
  return [...found.values()];
}
