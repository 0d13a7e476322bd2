// The words around the chart: legends, the bubble at the cursor, the list of events, all values.

// Legends stand on their panes; they tell the values of the bar under the crosshair.
class Legends {
  constructor(chart, ground) {
    Object.assign(this, { chart, ground });
    this.boxes = new Map();
  }

  // Put a box on every pane: `panes` are ids in the order of the chart's panes; the first one
  // leaves some pixels at the right free.
  place(panes, free) {
    const offset = this.ground.getBoundingClientRect();
    this.chart.panes().forEach((pane, i) => {
      const id = panes[i];
      if (!this.boxes.has(id)) {
        this.boxes.set(id, this.ground.appendChild(element("div", { class: `legend legend-${id}` })));
      }
      const area = pane.getHTMLElement()?.getBoundingClientRect();
      this.boxes.get(id).style.right = `${i ? 74 : free}px`;
      if (area) this.boxes.get(id).style.top = `${area.top - offset.top + 3}px`;
    });
  }

  clear() {
    for (const box of this.boxes.values()) box.remove();
    this.boxes.clear();
  }

  write(id, ...lines) {
    const made = lines
      .filter((line) => line?.length)
      .map((line) => element("div", {}, ...line.filter(Boolean).flatMap((part) => [part, " "])));
    this.boxes.get(id)?.replaceChildren(...made);
  }
}

// A name and a value, in a colour.
function entry(name, value, color) {
  const shown = element("b", color ? { style: `color:${color}` } : {}, value);
  return element("span", { class: "entry" }, name ? `${name} ` : "", shown);
}

function priceLegend(frame, slot, colors, isNarrow) {
  const row = frame.last(frame.bars)[slot];
  const read = (layer, column, at) => frame.value(layer, column, at);
  const at = frame.slots[slot];
  const when = element("span", { class: "entry when" }, isNarrow ? clock(at) : `${moment(at)} UTC`);
  const values = valueLine(frame, slot, colors, isNarrow);
  if (row < 0) return [[when, entry("", "no trades")], values];
  const bar = (column) => read(frame.bars, column, row);
  const change = (bar("close") / bar("open") - 1) * 100;
  const color = bar("close") >= bar("open") ? colors.up : colors.down;
  const first = [
    when,
    ...["open", "high", "low", "close"].map((name) => entry(name[0].toUpperCase(), price(bar(name)), color)),
    entry("", `${signed(change, (v) => number(v, 2))} %`, color),
    bar("gaps") ? entry("gaps", plain(bar("gaps")), colors.gap) : null,
  ];
  return [first, values];
}

// Averages, profile, wicks and walls of a bar.
function valueLine(frame, slot, colors, isNarrow) {
  const vwap = frame.last("vwap_1m")[slot];
  const profile = frame.asOf("profile_session", true)[slot];
  const wicks = frame.asOf("wicks_5m")[slot];
  const line = [];
  if (vwap >= 0) {
    const deviation = frame.value("vwap_1m", "deviation_sd", vwap);
    const far = deviation === null || isNarrow ? "" : ` (${signed(deviation, (v) => number(v, 2))} σ)`;
    line.push(entry("VWAP", average(frame.value("vwap_1m", "session_vwap", vwap)) + far, colors.vwap));
  }
  if (profile >= 0) {
    for (const name of isNarrow ? ["poc"] : ["poc", "vah", "val"]) {
      const color = name === "poc" ? colors.poc : colors.value;
      line.push(entry(name.toUpperCase(), average(frame.value("profile_session", name, profile)), color));
    }
  }
  if (wicks >= 0 && !isNarrow) {
    for (const [name, arrow] of [["high", "↑"], ["low", "↓"]]) {
      const level = frame.value("wicks_5m", `nearest_untouched_${name}`, wicks);
      if (level !== null) line.push(entry(`wick ${arrow}`, price(level), colors.wick));
    }
  }
  for (const side of ["bid", "ask"]) {
    const book = frame.most("buckets_1m", `${side}_wall`)[slot];
    if (book < 0) continue;
    const wall = frame.value("buckets_1m", `${side}_wall`, book);
    const age = frame.value("buckets_1m", `${side}_wall_age_s`, book);
    const at = price(frame.value("buckets_1m", `${side}_wall_price`, book));
    line.push(entry(`${side} wall`, `${short(wall)} @ ${at}, ${lasting(age)}`, colors[`${side}Wall`]));
  }
  return line;
}

const LEGENDS = {
  volume(frame, slot, colors, bars, isNarrow) {
    const bar = bars.get(frame.slots[slot]);
    if (!bar) return [];
    const row = frame.last("volume_1m")[slot];
    const own = frame.last(frame.bars)[slot];
    const read = (column) => frame.value("volume_1m", column, row);
    const tiers = [...bar.counts].sort().filter(([tier]) => tier !== "T0");
    return [
      entry("", `${short(bar.total)} ${HEAD.quote}`),
      entry("bought", short(frame.value(frame.bars, "buy_notional", own)), colors.up),
      entry("sold", short(frame.value(frame.bars, "sell_notional", own)), colors.down),
      isNarrow ? null : entry("trades", plain(frame.value(frame.bars, "trades", own))),
      ...tiers.map(([tier, n]) => entry("", frame.step === 60 ? tier : `${tier} × ${n}`, colors[tier])),
      frame.step === 60 && read("volume_ratio") !== null
        ? entry("", `${number(read("volume_ratio"), 2)} × median`)
        : null,
    ];
  },
  cvd(frame, slot, colors) {
    const row = frame.last("cvd_1m")[slot];
    const bar = frame.last(frame.bars)[slot];
    const delta = barDelta(frame, bar);
    return [
      entry("session", `${size(frame.value("cvd_1m", "session_cvd", row))} ${HEAD.base}`, colors.cvd),
      entry("delta", signed(delta, size), delta >= 0 ? colors.up : colors.down),
    ];
  },
  score(frame, slot, colors) {
    const row = frame.last("orderflow_1m")[slot];
    const direction = frame.value("orderflow_1m", "direction", row);
    if (direction === null) return [];
    const score = frame.value("orderflow_1m", "score", row);
    const color = direction === "HOLD" ? colors.muted : directed(direction, colors);
    const missing = frame.value("orderflow_1m", "missing", row);
    return [
      entry("", `${direction} ${signed(score, (v) => number(v, 2))}`, color),
      missing.length ? entry("not there:", missing.join(", "), colors.muted) : null,
    ];
  },
  vpin(frame, slot, colors) {
    const row = frame.asOf("vpin")[slot];
    const level = frame.value("vpin", "level", row);
    if (level === null) return [];
    const share = frame.value("vpin", "vpin_cdf", row);
    return [
      entry("", `${number(frame.value("vpin", "vpin", row), 3)} ${level}`, colors[level]),
      share === null ? null : entry("above", `${number(share * 100, 0)} % of the last 500`),
      entry("bucket", plain(frame.value("vpin", "bucket", row))),
    ];
  },
  lambda(frame, slot, colors) {
    const row = frame.last("impact_1m")[slot];
    const read = (column) => frame.value("impact_1m", column, row);
    if (read("kyle_lambda") === null) return [];
    return [
      entry("", `${number(read("kyle_lambda"), 2)} bps per 1M ${HEAD.quote}`, colors.lambda),
      entry("±", number(read("kyle_se"), 2)),
      entry("r²", number(read("kyle_r2"), 2)),
    ];
  },
  ofi(frame, slot, colors) {
    const flow = frame.last("flow_1m")[slot];
    const micro = frame.last("micro_1m")[slot];
    return [
      entry("OFI, mean of 5 min", number(frame.value("flow_1m", "ofi_momentum", flow), 3), colors.ofi),
      entry("depth imbalance", number(frame.value("micro_1m", "depth_imbalance", micro), 3), colors.depth),
    ];
  },
  spread(frame, slot, colors) {
    const row = frame.last("micro_1m")[slot];
    return [
      entry("", `${number(frame.value("micro_1m", "spread_bps", row), 3)} bps`, colors.spread),
      entry("", frame.value("micro_1m", "liquidity", row) ?? NOTHING),
    ];
  },
  interest(frame, slot, colors) {
    const row = frame.last("open_interest_1m")[slot];
    return [entry("", short(frame.value("open_interest_1m", "open_interest", row)), colors.ofi)];
  },
  liquidations(frame, slot, colors) {
    const row = frame.last("liquidations_1m")[slot];
    return [
      entry("longs", short(frame.value("liquidations_1m", "long_liquidations", row)), colors.down),
      entry("shorts", short(frame.value("liquidations_1m", "short_liquidations", row)), colors.up),
    ];
  },
};

// What takers bought less what they sold in a bar, base units. Of a minute the layer says it.
function barDelta(frame, row) {
  if (row < 0) return null;
  const at = frame.store.rows(frame.bars).at[row];
  if (frame.step === 60) {
    const minute = frame.last("cvd_1m")[frame.index.get(at)];
    return frame.value("cvd_1m", "delta", minute);
  }
  const scale = 10 ** HEAD.decimals.size;
  const read = (column) => Math.round(frame.value(frame.bars, column, row) * scale);
  return (read("buy_volume") - read("sell_volume")) / scale;
}

// The bubble with everything that happened in a bar.
function bubbleOf(frame, slot, events, colors) {
  const from = frame.slots[slot];
  const made = [element("div", { class: "when" }, `${moment(from)} – ${clock(from + frame.step)} UTC`)];
  const verdicts = events.filter((event) => event.kind === "verdict");
  const kept = events.filter((event) => event.kind !== "verdict");
  if (verdicts.length) kept.push(oneVerdict(verdicts, frame));
  for (const event of kept) {
    const color = directed(event.direction, colors);
    const heading = element(
      "div",
      { class: "heading" },
      element("i", { style: `color:${markColor(event, colors)}` }, glyph(event)),
      element("b", {}, event.title),
      event.direction === "NONE" || event.title.endsWith(event.direction) ? null : element("em", { style: `color:${color}` }, event.direction),
      element("small", {}, event.known ? `${event.tag}, known ${clock(event.known)}` : `${clock(event.at)}`),
    );
    const lines = event.lines().filter(Boolean).map((line) => element("div", { class: "line" }, line));
    made.push(element("section", {}, heading, ...lines));
  }
  return made;
}

function oneVerdict(verdicts, frame) {
  const last = verdicts.at(-1);
  if (verdicts.length === 1) return last;
  const counts = ["LONG", "SHORT"].map((side) => [side, verdicts.filter((v) => v.direction === side).length]);
  const words = counts.filter(([, n]) => n).map(([side, n]) => `${side} in ${n} min`);
  const lines = () => [`${words.join(", ")} of ${frame.step / 60}; the last:`, ...last.lines()];
  return { ...last, lines };
}

function glyph(event) {
  if (event.kind === "signal") return event.direction === "LONG" ? "▲" : "▼";
  if (event.kind === "filtered") return event.direction === "LONG" ? "△" : "▽";
  return { rule: "★", absorption: "○", divergence: "◆", warning: "◇", whale: "●", verdict: "≋" }[event.kind];
}

function markColor(event, colors) {
  if (["signal", "filtered", "whale", "verdict"].includes(event.kind)) return directed(event.direction, colors);
  return colors[event.kind];
}

// The list of events, newest first.
function eventRows(events, shown, colors, go) {
  const all = [...events.values()].flat().filter((event) => LISTED.includes(event.kind) && shown(event.kind));
  all.sort((a, b) => b.at - a.at);
  const rows = all.slice(0, 400).map((event) =>
    element(
      "button",
      { class: "event", type: "button", onclick: () => go(event.slot) },
      element("time", {}, moment(event.at)),
      element("i", { style: `color:${markColor(event, colors)}` }, glyph(event)),
      element("span", {}, event.title),
      element("small", {}, event.lines()[0]),
    ),
  );
  return { rows, count: all.length };
}

// Every value that the layers have for a bar.
function valueTable(frame, slot) {
  const made = [];
  for (const layer of Object.keys(frame.store.layers).sort()) {
    const isOther = layer.startsWith("bars_") && layer !== frame.bars;
    const row = isOther ? -1 : frame.last(layer)[slot];
    if (row < 0) continue;
    const table = frame.store.layers[layer];
    const values = Object.keys(table)
      .filter((column) => column !== "at" && !isNested(table[column][row]))
      .map((column) => cells(column, table[column][row]));
    if (!values.length) continue;
    const at = table.at[row];
    made.push(element("h3", {}, layer, element("small", {}, HEAD.spans[layer] ? clock(at) : clockSeconds(at))));
    made.push(element("dl", {}, ...values));
  }
  return made;
}

function isNested(value) {
  return value !== null && typeof value === "object";
}

// A value to eight digits; the very double stands in the title.
function cells(name, value) {
  const attributes = value === null ? {} : { title: String(value) };
  const text = value === null ? NOTHING : plain(value);
  return element("div", {}, element("dt", {}, name), element("dd", attributes, text));
}
