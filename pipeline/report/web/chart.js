// The chart: panes, series and overlays of one theme, filled from a frame.

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif";
const { LineStyle, CrosshairMode } = LightweightCharts;
const FEW = 40;
const SPARED = ["cvd", "score", "vpin", "lambda", "ofi", "spread", "interest", "long_liquidations"];

class Chart {
  // `shown` says which panes, parts and kinds of events are on.
  constructor(ground, theme, shown) {
    Object.assign(this, { ground, shown, colors: COLORS[theme] });
    this.panes = PANES.filter((pane) => pane.id === "price" || shown(pane.id));
    this.api = LightweightCharts.createChart(ground, this.options());
    // all of them before the first series: a series can only be put into a pane that is there
    for (const _ of this.panes.slice(1)) this.api.addPane(true);
    this.series = {};
    this.candles = this.add(LightweightCharts.CandlestickSeries, "price", "candles", {
      upColor: this.colors.up, downColor: this.colors.down, wickUpColor: this.colors.up,
      wickDownColor: this.colors.down, borderVisible: false, priceLineStyle: LineStyle.Dotted,
      priceFormat: { type: "custom", formatter: price, minMove: 10 ** -HEAD.decimals.price },
    });
    this.addHistograms();
    this.addLines();
    this.addQuality();
    this.overlay = new Overlay(this.api, this.candles, this.colors, shown);
    this.profile = new Profile(this.api, this.candles, this.colors, shown);
  }

  options() {
    const { background, text, grid, border, muted } = this.colors;
    return {
      autoSize: true,
      layout: {
        background: { color: background }, textColor: text, fontFamily: FONT, fontSize: 11,
        attributionLogo: false, panes: { separatorColor: border, separatorHoverColor: `${muted}40` },
      },
      grid: { vertLines: { color: grid }, horzLines: { color: grid } },
      rightPriceScale: { borderColor: border, scaleMargins: { top: 0.16, bottom: 0.06 } },
      timeScale: {
        borderColor: border, timeVisible: true, secondsVisible: false, minBarSpacing: 0.1,
        rightOffset: 0, fixRightEdge: false,
      },
      crosshair: {
        mode: CrosshairMode.Normal,
        vertLine: { color: muted, labelBackgroundColor: muted },
        horzLine: { color: muted, labelBackgroundColor: muted },
      },
      handleScroll: { vertTouchDrag: false },
      localization: { locale: "en-GB", dateFormat: "yyyy-MM-dd", timeFormatter: (at) => `${moment(at)} UTC` },
    };
  }

  index(pane) {
    return this.panes.findIndex((each) => each.id === pane);
  }

  add(kind, pane, id, options) {
    const common = { lastValueVisible: false, priceLineVisible: false, title: "" };
    const own = id === "candles" ? { lastValueVisible: true, priceLineVisible: true } : {};
    const add = kind instanceof StepSeries ? "addCustomSeries" : "addSeries";
    this.series[id] = this.api[add](kind, { ...common, ...own, ...options }, this.index(pane));
    return this.series[id];
  }

  addHistograms() {
    const compact = { type: "custom", formatter: short, minMove: 0.01 };
    if (this.index("volume") >= 0) {
      this.series.volume = this.api.addCustomSeries(
        new TierSeries(this.colors),
        { priceFormat: compact, lastValueVisible: false, priceLineVisible: false },
        this.index("volume"),
      );
      this.series.volume.priceScale().applyOptions({ scaleMargins: { top: 0.22, bottom: 0 } });
    }
    const plainBars = { priceFormat: compact };
    if (this.index("cvd") >= 0) {
      const delta = this.add(LightweightCharts.HistogramSeries, "cvd", "delta", { ...plainBars, priceScaleId: "delta" });
      delta.priceScale().applyOptions({ scaleMargins: { top: 0.3, bottom: 0.05 } });
    }
    if (this.index("score") >= 0) {
      this.add(LightweightCharts.HistogramSeries, "score", "score", {
        priceFormat: { type: "price", precision: 2, minMove: 0.01 },
        autoscaleInfoProvider: () => ({ priceRange: { minValue: -1, maxValue: 1 } }),
      });
    }
    if (this.index("liquidations") >= 0) {
      for (const side of ["long", "short"]) {
        this.add(LightweightCharts.HistogramSeries, "liquidations", `${side}_liquidations`, {
          ...plainBars, color: side === "long" ? this.colors.down : this.colors.up,
        });
      }
    }
  }

  addLines() {
    const formats = {
      cvd: { type: "custom", formatter: short, minMove: 0.01 },
      interest: { type: "custom", formatter: short, minMove: 0.01 },
      lambda: { type: "price", precision: 1, minMove: 0.01 },
    };
    for (const line of LINES) {
      const pane = line.pane ?? "price";
      if (this.index(pane) < 0) continue;
      const isOnPrice = pane === "price";
      const kind = line.step ? new StepSeries() : LightweightCharts.LineSeries;
      this.add(kind, pane, line.id, {
        color: this.colors[line.color], lineWidth: line.width, dash: line.dotted ? [2, 2] : [],
        crosshairMarkerVisible: !isOnPrice, visible: !line.part || this.shown(line.part),
        priceFormat: isOnPrice ? this.candles.options().priceFormat : (formats[pane] ?? { type: "price", precision: 3, minMove: 0.001 }),
        // the price scale fits the candles; what is far away from them does not squeeze them
        ...(isOnPrice && line.id !== "mid" ? { autoscaleInfoProvider: () => null } : {}),
      });
    }
    this.edges();
    // room for the legends
    for (const [id, series] of Object.entries(this.series)) {
      if (SPARED.includes(id)) series.priceScale().applyOptions({ scaleMargins: { top: 0.24, bottom: 0.06 } });
    }
  }

  // The levels between which VPIN changes its name.
  edges() {
    for (const edge of this.series.vpin ? (HEAD.parameters.vpin?.level_edges ?? []) : []) {
      this.series.vpin.createPriceLine({
        price: Number(edge), color: this.colors.border, lineWidth: 1, lineStyle: LineStyle.Dotted, axisLabelVisible: false,
      });
    }
  }

  addQuality() {
    this.quality = null;
    if (this.index("quality") < 0) return;
    this.quality = new Quality(this.api, this.api.panes()[this.index("quality")], this.colors);
  }

  // Give each pane its share of the height; one with nothing to draw shrinks to its words.
  share(isEmpty) {
    this.api.panes().forEach((pane, i) => {
      const { id, weight } = this.panes[i];
      pane.setStretchFactor(isEmpty(id) ? 0.35 : weight);
    });
  }

  fill(frame, events) {
    this.frame = frame;
    this.events = events;
    this.candles.setData(candleData(frame));
    this.tiers = new Map(tierBars(frame).map((bar) => [bar.time, bar]));
    this.series.volume?.setData([...this.tiers.values()]);
    this.series.delta?.setData(deltaData(frame, this.colors));
    this.series.score?.setData(scoreData(frame, this.colors));
    for (const side of ["long", "short"]) {
      this.series[`${side}_liquidations`]?.setData(liquidationData(frame, side));
    }
    for (const line of LINES) this.trace(line);
    const isShort = frame.slots.length <= FEW;
    const lines = LINES.filter((line) => !line.step);
    for (const line of lines) this.series[line.id]?.applyOptions({ pointMarkersVisible: isShort, pointMarkersRadius: 2 });
    this.overlay.fill(frame, events);
    this.profile.fill(frame);
    this.quality?.fill(frame);
  }

  // Give a line its points; one that is not shown has none, since the library sorts them all.
  trace(line) {
    const isShown = !line.part || this.shown(line.part);
    this.series[line.id]?.setData(isShown ? lineData(this.frame, line, this.colors) : []);
  }

  // Show the last bars, as many as can be told apart, with room for the profile.
  fit(first, last) {
    const width = this.api.timeScale().width() || this.ground.clientWidth;
    const strip = this.shown("profile") ? Profile.width(width) + 8 : 12;
    const room = Math.max(60, width - strip);
    const count = Math.max(1, last - first + 1);
    const narrowest = width < 520 ? 3.2 : 1.6;
    const bars = Math.min(count, Math.floor(room / narrowest));
    const spacing = Math.min(room / bars, 72);
    const to = last + 0.5 + strip / spacing;
    this.api.timeScale().setVisibleLogicalRange({ from: to - width / spacing, to });
  }
}

function candleData(frame) {
  const bars = frame.store.rows(frame.bars);
  const rows = frame.last(frame.bars);
  return frame.slots.map((time, slot) => {
    const row = rows[slot];
    if (row < 0) return { time };
    return { time, open: bars.open[row], high: bars.high[row], low: bars.low[row], close: bars.close[row] };
  });
}

// A line's points; it does not run across bars without a value, over holes, or past midnight.
function lineData(frame, line, colors) {
  const rows = line.asOf ? frame.asOf(line.layer, line.session) : frame.last(line.layer);
  const points = [];
  let before = -2;
  frame.slots.forEach((time, slot) => {
    const value = frame.value(line.layer, line.column, rows[slot]);
    if (value === null) return;
    const isApart = slot !== before + 1 || frame.isCut(slot) || (line.session && frame.isNewDay(slot));
    if (isApart && points.length && !line.step) points.at(-1).color = "transparent";
    const ink = line.colorBy ? { ink: colors[frame.value(line.layer, line.colorBy, rows[slot])] } : {};
    const first = isApart && line.step ? { isFirst: true } : {};
    points.push({ time, value, ...ink, ...first });
    before = slot;
  });
  return points;
}

function deltaData(frame, colors) {
  const bars = frame.store.rows(frame.bars);
  return bars.at.map((time, row) => {
    const value = barDelta(frame, row) ?? 0;
    return { time, value, color: `${value >= 0 ? colors.up : colors.down}70` };
  });
}

function scoreData(frame, colors) {
  const rows = frame.last("orderflow_1m");
  return frame.slots.flatMap((time, slot) => {
    const value = frame.value("orderflow_1m", "score", rows[slot]);
    if (value === null) return [];
    const direction = frame.value("orderflow_1m", "direction", rows[slot]);
    return [{ time, value, color: direction === "HOLD" ? `${colors.muted}70` : directed(direction, colors) }];
  });
}

function liquidationData(frame, side) {
  const rows = frame.last("liquidations_1m");
  const sign = side === "long" ? -1 : 1;
  return frame.slots.flatMap((time, slot) => {
    const value = frame.value("liquidations_1m", `${side}_liquidations`, rows[slot]);
    return value === null ? [] : [{ time, value: sign * value }];
  });
}
