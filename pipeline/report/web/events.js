// Everything that happened: signals, matches of rules, absorption, divergence, whales, verdicts.

const KINDS = {
  signal: { label: "Signals", layer: "signals_5m", on: true },
  filtered: { label: "Signals better left alone (filtered)", on: false },
  warning: { label: "Divergence warnings (5m and longer)", on: false },
  rule: { label: "Rules that matched", on: true },
  absorption: { label: "Absorption", layer: "volume_1m", on: true },
  divergence: { label: "Divergence of price and delta", on: true },
  whale: { label: "Whales", on: true },
  verdict: { label: "Order-flow verdicts on hover", on: true },
};
const LISTED = ["signal", "filtered", "warning", "rule", "absorption", "divergence", "whale"];

// By bar, its events. Each has a kind, a side of the bar, a title, and lines when they are asked for.
function eventsOf(frame) {
  const found = new Map();
  const add = (at, event) => {
    const slot = frame.slotOf(at);
    if (slot === undefined) return;
    if (!found.has(slot)) found.set(slot, []);
    found.get(slot).push({ ...event, slot });
  };
  addSignals(frame, add);
  addRules(frame, add);
  addVolume(frame, add);
  addWhales(frame, add);
  addVerdicts(frame, add);
  return found;
}

function signalTimeframe(timeframe) {
  return timeframe === "1m" ? "5m" : timeframe;
}

function addSignals(frame, add) {
  const timeframe = signalTimeframe(frame.timeframe);
  const layer = `signals_${timeframe}`;
  const longer = new Map(
    timeframe === "5m" ? frame.store.events("mtf").map((row) => [row.timestamp_utc, row]) : [],
  );
  for (const day of frame.store.days) {
    for (const row of day.signals[timeframe]) {
      const mtf = longer.get(row.timestamp_utc);
      const isWarning = row.direction === "NONE";
      const isFiltered = row.filtered || Boolean(mtf?.filtered);
      const kind = isWarning ? "warning" : isFiltered ? "filtered" : "signal";
      const at = seconds(row.timestamp_utc);
      add(frame.known(layer, at), {
        kind,
        at,
        side: row.direction === "LONG" ? "below" : "above",
        direction: row.direction,
        title: row.signal.replaceAll("_", " "),
        tag: timeframe,
        known: at + STEPS[timeframe],
        lines: () => signalLines(row, mtf),
        row,
        mtf,
      });
    }
  }
}

function signalLines(row, mtf) {
  const lines = [`confidence ${number(row.confidence, 2)}`, row.reasons.join(" · ")];
  if (row.direction !== "NONE") {
    lines.push(`price ${price(row.price)}, stop ${average(row.stop_distance)} away`);
    lines.push(`size ${size(row.final_size)} ${HEAD.base}`);
  }
  if (mtf) {
    const exhaustion = mtf.mtf_exhaustion === "NONE" ? "" : `, exhaustion ${mtf.mtf_exhaustion}`;
    const sized = row.direction === "NONE" ? "" : `, size × ${plain(mtf.size_multiplier)}`;
    lines.push(`longer bars: ${mtf.mtf_direction.replaceAll("_", " ")}${exhaustion}${sized}`);
  }
  const reason = mtf?.filter_reason ?? row.filter_reason;
  if (reason) lines.push(`filtered: ${reason.replaceAll(";", ", ")}`);
  return lines;
}

function addRules(frame, add) {
  for (const row of frame.store.events("rules")) {
    const at = seconds(row.timestamp_utc);
    add(frame.known("confluence_1m", at), {
      kind: "rule",
      at,
      side: row.direction === "LONG" ? "below" : "above",
      direction: row.direction,
      title: row.rule.replaceAll("_", " "),
      tag: "rule",
      lines: () => row.conditions.map(conditionLine),
      row,
    });
  }
}

function conditionLine(condition) {
  const values = Object.entries(condition.values).map(([name, value]) => `${name} = ${rough(value)}`);
  return `${condition.part}  (${values.join(", ")})`;
}

function addVolume(frame, add) {
  const volume = frame.store.rows("volume_1m");
  volume.at.forEach((at, i) => {
    const figures = () =>
      `${short(volume.total_volume[i])} ${HEAD.quote} traded, delta ` +
      `${signed(volume.delta[i], short)}, price ${signed(volume.price_change_pct[i], (v) => number(v, 2))} %`;
    if (volume.absorption[i]) {
      const side = volume.absorption_side[i];
      const who = { sell: "buyers were absorbed", buy: "sellers were absorbed" }[side];
      add(at, {
        kind: "absorption",
        at,
        side: side === "buy" ? "below" : "above",
        direction: { buy: "LONG", sell: "SHORT" }[side] ?? "NONE",
        title: `Absorption${who ? `: ${who}` : ""}`,
        tag: "1m",
        lines: () => [figures(), `${number(volume.volume_ratio[i], 2)} × the median minute`],
      });
    }
    if (volume.divergence[i]) {
      const type = volume.divergence_type[i];
      add(at, {
        kind: "divergence",
        at,
        side: type === "bullish" ? "below" : "above",
        direction: type === "bullish" ? "LONG" : "SHORT",
        title: `${type === "bullish" ? "Bullish" : "Bearish"} divergence of price and delta`,
        tag: "1m",
        lines: () => [figures()],
      });
    }
  });
}

function addWhales(frame, add) {
  const bars = frame.store.rows(frame.bars);
  bars.at.forEach((at, i) => {
    if (!bars.whale_trades[i]) return;
    const all = bars.whale_notional[i];
    const bought = bars.whale_buy_notional[i];
    add(at, {
      kind: "whale",
      at,
      side: "on",
      direction: bought * 2 > all ? "LONG" : bought * 2 < all ? "SHORT" : "NONE",
      title: bars.whale_trades[i] === 1 ? "Whale" : `${bars.whale_trades[i]} whale trades`,
      tag: frame.timeframe,
      lines: () => [`${short(all)} ${HEAD.quote}, of that bought ${short(bought)}`],
      notional: all,
      price: bars.close[i],
    });
  });
}

function addVerdicts(frame, add) {
  const verdicts = frame.store.rows("orderflow_1m");
  verdicts.at.forEach((at, i) => {
    if (verdicts.direction[i] === "HOLD") return;
    add(at, {
      kind: "verdict",
      at,
      side: "none",
      direction: verdicts.direction[i],
      title: `Order flow ${signed(verdicts.score[i], (v) => number(v, 2))}`,
      tag: "1m",
      lines: () => verdictLines(verdicts.reasons[i], verdicts.missing[i]),
    });
  });
}

function verdictLines(reasons, missing) {
  const lines = reasons.map(({ factor, side, points, value }) => {
    const own = signed(side === "bullish" ? points : -points, (v) => number(v, 2));
    return `${own} ${factor.replaceAll("_", " ")} (${rough(value)})`;
  });
  return missing.length ? [...lines, `not there: ${missing.join(", ")}`] : lines;
}
