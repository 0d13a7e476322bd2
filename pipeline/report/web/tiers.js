// The volume of a bar, stacked by the tiers of its minutes. A series of its own for the library.

class TierSeries {
  constructor(colors) {
    this.colors = colors;
    this.data = null;
  }

  renderer() {
    return { draw: (target, toY) => this.draw(target, toY) };
  }

  update(data) {
    this.data = data;
  }

  priceValueBuilder(bar) {
    return [0, bar.total];
  }

  isWhitespace(bar) {
    return bar.total === undefined;
  }

  defaultOptions() {
    return { ...LightweightCharts.customSeriesDefaultOptions, color: this.colors.T2 };
  }

  draw(target, toY) {
    const { bars, barSpacing, visibleRange } = this.data ?? {};
    if (!visibleRange) return;
    target.useBitmapCoordinateSpace(({ context, horizontalPixelRatio: h, verticalPixelRatio: v }) => {
      const width = Math.max(1, Math.floor(barSpacing * h * 0.7));
      for (let i = visibleRange.from; i < visibleRange.to; i++) {
        const bar = bars[i];
        const left = Math.round(bar.x * h - width / 2);
        let sum = 0;
        let bottom = Math.round(toY(0) * v);
        for (const [tier, volume] of bar.originalData.parts) {
          sum += volume;
          const top = Math.round(toY(sum) * v);
          context.fillStyle = this.colors[tier];
          context.fillRect(left, top, width, bottom - top);
          bottom = top;
        }
      }
    });
  }
}

// The bars of the volume pane: what was traded, and how much of it in minutes of each tier.
function tierBars(frame) {
  const bars = frame.store.rows(frame.bars);
  const minutes = frame.store.rows("volume_1m");
  return bars.at.map((at, i) => {
    const total = bars.notional[i];
    const parts = new Map([["T0", 0], ...TIERS.map((tier) => [tier, 0])]);
    const counts = new Map();
    if (minutes.at.length) {
      const [from, to] = frame.within("volume_1m", frame.index.get(at));
      for (let row = from; row < to; row++) {
        const tier = minutes.volume_tier[row] ?? "T0";
        parts.set(tier, parts.get(tier) + minutes.total_volume[row]);
        counts.set(tier, (counts.get(tier) ?? 0) + 1);
      }
    } else {
      parts.set("T0", total);
    }
    return { time: at, total, parts: [...parts].filter(([, volume]) => volume), counts };
  });
}
