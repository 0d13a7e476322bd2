// The strip at the bottom: what each feed brought, bar by bar.

const STRIP = [
  { kind: "trades", layer: "bars_1m", label: "trades" },
  { kind: "books", layer: "buckets_1m", label: "book", holes: "book_gaps", inputs: ["ladder_1m", "book_events", "book"] },
  { kind: "quotes", layer: "flow_1m", label: "quotes", inputs: ["quote", "bbo"] },
];

class Quality {
  constructor(chart, pane, colors) {
    Object.assign(this, { chart, colors });
    this.frame = null;
    pane.attachPrimitive(primitive("bottom", (context, area) => this.draw(context, area)));
  }

  fill(frame) {
    this.frame = frame;
    this.cells = STRIP.map((row) => this.row(row));
  }

  // By bar: "ok", "part" (minutes are missing), "none", "gap", "stalled", or "without".
  row({ kind, layer, holes, inputs }) {
    const feed = HEAD.feeds.find((each) => each.kind === kind);
    if (feed.note) return null;
    const { frame } = this;
    const found = frame.slots.map((at, slot) => {
      const [from, to] = frame.within(layer, slot);
      return to - from === 0 ? "none" : (to - from) * 60 < frame.step ? "part" : "ok";
    });
    const mark = (at, state) => {
      const slot = frame.slotOf(at);
      if (slot !== undefined) found[slot] = state;
    };
    if (feed.stalled) {
      frame.slots.forEach((at, slot) => {
        if (at > feed.watermark / 1e6) found[slot] = "stalled";
      });
    }
    for (const span of HEAD.without.filter((each) => inputs?.includes(each.layer))) {
      frame.slots.forEach((at, slot) => {
        if (at + frame.step > span.from / 1e6 && at < span.to / 1e6) found[slot] = "without";
      });
    }
    for (const each of frame.store.days.flatMap((day) => day.holes[holes ?? "gaps"])) {
      if (each.kind === kind) mark(each.ts / 1000, "gap");
    }
    return found;
  }

  draw(context, area) {
    if (!this.frame) return;
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const scale = this.chart.timeScale();
    const spacing = scale.options().barSpacing;
    const tall = Math.min(13, (area.height - 6) / STRIP.length);
    context.font = `10px ${FONT}`;
    context.textBaseline = "middle";
    this.cells.forEach((cells, i) => {
      const top = 4 + i * (tall + 1);
      if (cells && range) {
        const last = Math.min(cells.length - 1, Math.ceil(range.to));
        for (let slot = Math.max(0, Math.floor(range.from)); slot <= last; slot++) {
          context.fillStyle = this.colors[{ ok: "ok", part: "ok", none: "quiet" }[cells[slot]] ?? cells[slot]];
          context.globalAlpha = cells[slot] === "part" ? 0.45 : 1;
          const wide = Math.max(cells[slot] === "gap" ? 3 : 1, spacing + 0.5);
          context.fillRect(scale.logicalToCoordinate(slot) - spacing / 2, top, wide, tall - 2);
        }
      }
      context.globalAlpha = 1;
      this.label(context, i, top + tall / 2 - 1, cells);
    });
  }

  label(context, i, y, cells) {
    const feed = HEAD.feeds.find((each) => each.kind === STRIP[i].kind);
    const text = cells ? STRIP[i].label : `${STRIP[i].label}: ${feed.note}`;
    const width = context.measureText(text).width;
    context.fillStyle = this.colors.background;
    context.globalAlpha = 0.8;
    context.fillRect(2, y - 6, width + 8, 12);
    context.globalAlpha = 1;
    context.fillStyle = cells ? this.colors.muted : this.colors.without;
    context.fillText(text, 6, y + 0.5);
  }

  // The words for a bar.
  words(slot) {
    const names = {
      ok: "complete",
      part: "some minutes without",
      none: "none",
      gap: "GAP: records never arrived",
      stalled: "stalled",
      without: "gone on without",
    };
    return STRIP.map(({ label }, i) => {
      const cells = this.cells[i];
      return `${label} ${cells ? names[cells[slot]] : "not there"}`;
    });
  }
}

function counted(count, noun, rest) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"} ${rest}`;
}

// Chips above the chart: counts of what was refused or is missing.
function qualityChips(days) {
  const chips = [];
  const chip = (text, state, title = "") => {
    chips.push(element("span", { class: `chip ${state}`, title }, text));
  };
  for (const feed of HEAD.feeds) {
    if (feed.note) {
      if (["trades", "books", "quotes"].includes(feed.kind)) chip(`no ${feed.label}`, "warn", feed.note);
      continue;
    }
    if (feed.stalled) {
      chip(
        `${feed.label} STALLED since ${moment(feed.watermark / 1e6)}`,
        "bad",
        `${lasting(feed.behind_s)} behind the other feeds`,
      );
    }
    const refused = Object.values(feed.refused).flatMap((reasons) => Object.entries(reasons));
    const bad = refused.filter(([reason]) => reason !== "late").reduce((sum, [, n]) => sum + n, 0);
    const late = refused.filter(([reason]) => reason === "late").reduce((sum, [, n]) => sum + n, 0);
    const why = [...new Set(refused.map(([reason]) => reason))].join(", ");
    if (late) chip(`${feed.label}: ${late.toLocaleString("en-US")} late`, "warn", "in the quarantine, in no layer");
    if (bad) chip(`${feed.label}: ${bad.toLocaleString("en-US")} bad lines`, "bad", `in the quarantine: ${why}`);
  }
  const holes = { trades: 0, books: 0 };
  for (const day of days) {
    holes.trades += day.holes.gaps.length;
    holes.books += day.holes.book_gaps.length;
  }
  if (holes.trades) chip(counted(holes.trades, "gap", "in trade ids"), "bad");
  if (holes.books) chip(counted(holes.books, "hole", "in the book feed"), "bad");
  if (HEAD.behind.length) {
    const words = HEAD.behind.map(({ stage, behind_s: s }) => (s === null ? stage : `${stage} ${lasting(s)}`));
    chip(counted(HEAD.behind.length, "stage", "behind the feeds"), "warn", words.join(", "));
  }
  if (HEAD.without.length) chip("went on without a feed (--give-up)", "warn");
  if (!chips.length) chip("no gaps, nothing late, no bad lines", "good");
  return chips;
}
