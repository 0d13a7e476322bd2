// The page: what is shown, the switches, and what follows the cursor.

const KEPT = "flowvault.report";
const MOST_BARS = 600;

class Page {
  constructor() {
    this.kept = remembered();
    this.isMoved = false;
    this.store = new Store();
    this.ground = document.getElementById("chart");
    this.chart = null;
    this.pinned = null;
    this.timeframe = null;
  }

  get isNarrow() {
    return window.innerWidth < 720;
  }

  get theme() {
    const own = this.kept.theme;
    if (own === "dark" || own === "light") return own;
    return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
  }

  // Whether a pane, a part of the price pane, or a kind of event is on.
  shown(id) {
    if (id in this.kept.on) return this.kept.on[id];
    const on = (PANES.find((pane) => pane.id === id) ?? PARTS[id] ?? KINDS[id]).on;
    if (on === "wide") return !this.isNarrow;
    if (on === "without trades") return !HEAD.rows.bars_1m;
    if (on === "present") return PANES.find((pane) => pane.id === id).needs.some((layer) => HEAD.rows[layer]);
    return Boolean(on);
  }

  async start() {
    this.writeHead();
    await this.store.show(this.store.first, this.store.last);
    const kept = this.kept.timeframe;
    this.timeframe = this.store.rows(`bars_${kept}`).at.length > 1 ? kept : this.bestTimeframe();
    this.buildControls();
    this.build();
    this.fit();
    for (const touch of ["wheel", "pointerdown", "touchstart"]) {
      this.ground.addEventListener(touch, () => (this.isMoved = true), { passive: true });
    }
    matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => this.restyle());
    new ResizeObserver(() => this.arrange()).observe(this.ground);
    document.documentElement.dataset.ready = Math.round(performance.now());
  }

  bestTimeframe() {
    const minutes = this.store.rows("bars_1m").at.length;
    return minutes <= 180 || !this.store.rows("bars_5m").at.length ? "1m" : "5m";
  }

  // A timeframe, or the next longer one of which there are not too many bars.
  coarseEnough(timeframe) {
    const minutes = this.store.rows("bars_1m").at.length;
    const longer = Object.keys(STEPS).filter((each) => STEPS[each] >= STEPS[timeframe]);
    return longer.find((each) => (minutes * 60) / STEPS[each] <= MOST_BARS) ?? longer.at(-1);
  }

  // -- building ------------------------------------------------------------------------

  build() {
    document.documentElement.dataset.theme = this.theme;
    this.legends?.clear();
    this.chart?.api.remove();
    const count = PANES.filter((pane) => pane.id !== "price" && this.shown(pane.id)).length;
    this.ground.style.setProperty("--panes", count);
    this.chart = new Chart(this.ground, this.theme, (id) => this.shown(id));
    this.legends = new Legends(this.chart.api, document.getElementById("stage"));
    this.chart.api.subscribeCrosshairMove((event) => this.follow(event));
    this.chart.api.subscribeClick((event) => this.pin(event));
    this.chart.api.timeScale().subscribeVisibleLogicalRangeChange((range) => this.extend(range));
    this.refill();
  }

  refill() {
    this.frame = new Frame(this.store, this.timeframe);
    this.events = eventsOf(this.frame);
    this.chart.fill(this.frame, this.events);
    this.chart.share((id) => this.absence(id) !== null);
    this.list();
    this.tell(this.lastBar());
    this.showQuality();
    requestAnimationFrame(() => this.arrange());
  }

  // Build anew and stay where one was looking.
  restyle() {
    const range = this.chart.api.timeScale().getVisibleLogicalRange();
    this.build();
    if (range) this.chart.api.timeScale().setVisibleLogicalRange(range);
  }

  arrange() {
    const axis = this.ground.clientWidth - this.chart.api.timeScale().width();
    const strip = this.shown("profile") && !this.isNarrow ? Profile.width(this.ground.clientWidth) : 0;
    this.legends.place(this.chart.panes.map((pane) => pane.id), axis + strip + 6);
    this.tell(this.told);
  }

  fit() {
    this.isMoved = false;
    const [first, last] = this.daySlots(this.day ?? null);
    this.chart.fit(first, last);
  }

  // The bars of a day; of all days without one.
  daySlots(day) {
    const { slots } = this.frame;
    const own = slots.map((at, slot) => [dayOf(at), slot]).filter(([name]) => !day || name === day);
    return own.length ? [own[0][1], own.at(-1)[1]] : [0, slots.length - 1];
  }

  // Why a pane is empty, or null if it is not.
  absence(id) {
    const pane = PANES.find((each) => each.id === id);
    const layer = pane.needs?.[0];
    if (!layer) return null;
    if (!this.store.rows(layer).at.length) {
      return `${layer}: ${noteOf(layer)}`;
    }
    if (pane.column && !this.store.has(layer, pane.column)) return warmingUp(layer, this.store);
    return null;
  }

  // -- what follows the cursor ---------------------------------------------------------

  follow(event) {
    const slot = event.time === undefined ? undefined : this.frame.index.get(event.time);
    this.tell(slot ?? this.lastBar());
    if (this.pinned === null || slot !== undefined) this.bubble(slot, event.point);
  }

  pin(event) {
    const slot = event.time === undefined ? null : this.frame.index.get(event.time);
    this.pinned = slot ?? null;
    this.tell(slot ?? this.lastBar());
    this.bubble(slot ?? undefined, event.point);
  }

  lastBar() {
    const rows = this.frame.last(this.frame.bars);
    const last = rows.findLastIndex((row) => row >= 0);
    return last < 0 ? rows.length - 1 : last;
  }

  // Write the values of a bar into all legends.
  tell(slot) {
    this.told = slot;
    if (slot === undefined || slot < 0 || !this.legends) return;
    const { colors } = this.chart;
    const lines = priceLegend(this.frame, slot, colors, this.isNarrow);
    this.legends.write("price", ...lines, this.lacking());
    for (const pane of this.chart.panes.slice(1)) {
      const title = element("span", { class: "title" }, pane.title);
      const why = this.absence(pane.id);
      if (pane.id === "quality") {
        this.legends.write("quality");
      } else if (why) {
        this.legends.write(pane.id, [title, element("span", { class: "absent" }, why)]);
      } else {
        const entries = LEGENDS[pane.id](this.frame, slot, colors, this.chart.tiers, this.isNarrow);
        this.legends.write(pane.id, [title, ...(entries.length ? entries : [this.ended(pane, slot)])]);
      }
    }
    const values = document.getElementById("values");
    if (values.closest("details").open) values.replaceChildren(...valueTable(this.frame, slot));
    document.getElementById("values-at").textContent = `${moment(this.frame.slots[slot])} UTC`;
  }

  // What is switched on for the price pane and has no rows on these days.
  lacking() {
    const reasons = new Map();
    for (const [id, { layer, label }] of Object.entries({ ...PARTS, ...KINDS })) {
      if (!layer || !this.shown(id) || HEAD.rows[layer]) continue;
      const note = noteOf(layer);
      reasons.set(note, [...(reasons.get(note) ?? []), label]);
    }
    const words = [...reasons].map(([note, labels]) => `${labels.join(", ")} (${note})`);
    return words.length ? [element("span", { class: "absent" }, `not here: ${words.join("; ")}`)] : [];
  }

  // What to say of a bar for which a pane's layer has no value.
  ended(pane, slot) {
    const layer = pane.needs[0];
    const end = this.frame.known(layer, this.store.rows(layer).at.at(-1)) + 0.001;
    if (this.frame.slots[slot] < end) return entry("", NOTHING);
    return element("span", { class: "absent" }, `the layer ends at ${clock(end)}`);
  }

  // The events of the bar under the cursor, or of one a few pixels beside it.
  bubble(slot, point) {
    const box = document.getElementById("bubble");
    const found = slot === undefined ? null : this.nearest(slot);
    if (found === null) {
      box.hidden = true;
      return;
    }
    const words = bubbleOf(this.frame, found, this.happened(found), this.chart.colors);
    if (this.chart.quality) {
      words.push(element("div", { class: "when" }, this.chart.quality.words(found).join(" · ")));
    }
    box.replaceChildren(...words);
    box.hidden = false;
    this.moveBubble(box, point ?? { x: this.chart.overlay.x(found), y: 80 });
  }

  moveBubble(box, point) {
    if (this.isNarrow) {
      box.style.cssText = "";
      return;
    }
    const { clientWidth } = this.ground;
    const isRight = point.x + box.offsetWidth + 28 < clientWidth;
    const left = isRight ? point.x + 18 : Math.max(4, point.x - box.offsetWidth - 18);
    const top = Math.min(Math.max(60, point.y + 14), Math.max(60, this.ground.clientHeight - box.offsetHeight - 30));
    box.style.cssText = `left:${left}px;top:${top}px`;
  }

  happened(slot) {
    return (this.events.get(slot) ?? []).filter((event) => this.shown(event.kind));
  }

  nearest(slot) {
    const reach = Math.max(0, Math.floor(5 / this.chart.overlay.spacing()));
    for (let away = 0; away <= reach; away++) {
      for (const near of [slot - away, slot + away]) {
        if (this.happened(near).length) return near;
      }
    }
    return null;
  }

  list() {
    const go = (slot) => this.go(slot);
    const { rows, count } = eventRows(this.events, (kind) => this.shown(kind), this.chart.colors, go);
    const more = count > rows.length ? [element("p", {}, `and ${count - rows.length} older ones`)] : [];
    const none = count ? [] : [element("p", {}, "None of the kinds that are switched on.")];
    document.getElementById("events").replaceChildren(...rows, ...more, ...none);
    document.getElementById("events-count").textContent = count;
  }

  // Bring a bar into the middle, with its bubble.
  go(slot) {
    const scale = this.chart.api.timeScale();
    const range = scale.getVisibleLogicalRange();
    const half = (range.to - range.from) / 2;
    if (slot < range.from + half * 0.1 || slot > range.to - half * 0.5) {
      scale.setVisibleLogicalRange({ from: slot - half, to: slot + half });
    }
    this.hover(slot);
    this.pinned = slot;
  }

  hover(slot) {
    const row = this.frame.last(this.frame.bars)[slot];
    const value = row < 0 ? this.chart.candles.coordinateToPrice(80) : this.frame.value(this.frame.bars, "close", row);
    this.chart.api.setCrosshairPosition(value, this.frame.slots[slot], this.chart.candles);
    this.tell(slot);
    requestAnimationFrame(() => this.bubble(slot, null));
  }

  // -- days ----------------------------------------------------------------------------

  // At the edge of what is unpacked the next day is put to it.
  async extend(range) {
    if (!range || this.isBusy || !this.isMoved) return;
    const { first, last } = this.store;
    const wantsOlder = range.from < -5 && first > 0;
    const wantsNewer = range.to > this.frame.slots.length + 400 && last < HEAD.days.length - 1;
    if (!wantsOlder && !wantsNewer) return;
    this.isBusy = true;
    await this.load(wantsOlder ? first - 1 : first, wantsNewer ? last + 1 : last);
    this.isBusy = false;
  }

  // Unpack days and keep the same times in sight.
  async load(first, last) {
    const scale = this.chart.api.timeScale();
    const range = scale.getVisibleLogicalRange();
    const anchor = this.frame.slots[0];
    await this.store.show(first, last);
    this.refill();
    const moved = this.frame.index.get(anchor) ?? 0;
    if (range) scale.setVisibleLogicalRange({ from: range.from + moved, to: range.to + moved });
    this.markControls();
  }

  // Show one day, or all of them.
  async showDays(day) {
    this.isBusy = true;
    this.day = day;
    const at = day ? HEAD.days.indexOf(day) : -1;
    const [first, last] = day ? [at, at] : [0, HEAD.days.length - 1];
    await this.store.show(first, last);
    this.timeframe = this.coarseEnough(this.timeframe);
    this.refill();
    this.fit();
    this.markControls();
    this.isBusy = false;
  }

  async step(by) {
    const at = this.day ? HEAD.days.indexOf(this.day) : this.store.last + (by > 0 ? 0 : 1);
    const next = Math.min(HEAD.days.length - 1, Math.max(0, at + by));
    await this.showDays(HEAD.days[next]);
  }

  // -- switches ------------------------------------------------------------------------

  setTimeframe(timeframe) {
    const scale = this.chart.api.timeScale();
    const range = scale.getVisibleRange();
    this.timeframe = timeframe;
    this.remember({ timeframe });
    this.refill();
    this.markControls();
    this.fit();
    const isPart = range && range.to - range.from < 0.6 * (this.frame.slots.at(-1) - this.frame.slots[0]);
    if (isPart) scale.setVisibleRange(range);
  }

  toggle(id, isOn) {
    this.remember({ on: { ...this.kept.on, [id]: isOn } });
    const isPane = PANES.some((pane) => pane.id === id);
    if (isPane) {
      this.restyle();
    } else {
      for (const line of LINES.filter((each) => each.part === id)) {
        this.chart.trace(line);
        this.chart.series[line.id].applyOptions({ visible: isOn });
      }
      this.chart.candles.applyOptions({});
      this.list();
    }
    this.markControls();
  }

  remember(changes) {
    Object.assign(this.kept, changes);
    try {
      localStorage.setItem(KEPT, JSON.stringify(this.kept));
    } catch {
      // a browser may refuse to keep anything for a file: then it is kept as long as the page is open
    }
  }

  buildControls() {
    buildControls(this);
    this.markControls();
  }

  markControls() {
    markControls(this);
  }

  showQuality() {
    document.getElementById("quality").replaceChildren(...qualityChips(this.store.days));
  }

  writeHead() {
    writeHead();
  }
}

function remembered() {
  const nothing = { theme: "auto", on: {} };
  try {
    return { ...nothing, ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") };
  } catch {
    return nothing;
  }
}

// Why a layer has no rows.
function noteOf(layer) {
  return HEAD.layers.find((each) => each.layer === layer).note ?? "no rows on these days";
}

// What a layer still waits for before its first value.
function warmingUp(layer, store) {
  const parameters = HEAD.parameters;
  if (layer === "vpin") {
    const last = store.rows("vpin").bucket.at(-1);
    return `the first value comes with bucket ${parameters.vpin.window}; ${last} so far`;
  }
  if (layer === "impact_1m") return `the first value needs ${parameters.impact.min_window} bars`;
  return `${layer} has rows, but no value in them`;
}

const page = new Page();
page.words = { number, short, signed, plain, lasting };
window.flowvault = page;
page.start().catch((error) => {
  const box = document.getElementById("trouble");
  box.hidden = false;
  box.textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for the page: it needs DecompressionStream (Chrome 80, Firefox 113, Safari 16.4)."
    : `The page cannot be drawn: ${error.message}`;
  throw error;
});
