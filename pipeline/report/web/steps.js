// A value that stands until the next one is known. The library's own stepped line cannot be broken
// at midnight without drawing the jump. A point has an `ink` if its colour is not that of the line.

class StepSeries {
  constructor() {
    this.data = null;
  }

  renderer() {
    return { draw: (target, toY) => this.draw(target, toY) };
  }

  update(data, options) {
    this.data = data;
    this.options = options;
  }

  priceValueBuilder(point) {
    return [point.value];
  }

  isWhitespace(point) {
    return point.value === undefined;
  }

  defaultOptions() {
    return { ...LightweightCharts.customSeriesDefaultOptions, lineWidth: 1, dash: [] };
  }

  draw(target, toY) {
    const { bars, barSpacing, visibleRange } = this.data ?? {};
    if (!visibleRange) return;
    target.useMediaCoordinateSpace(({ context }) => {
      context.lineWidth = this.options.lineWidth;
      context.setLineDash(this.options.dash);
      let before = null;
      for (let i = visibleRange.from; i < visibleRange.to; i++) {
        const { x, time, originalData: point } = bars[i];
        const y = toY(point.value);
        const isJoined = before !== null && before.time === time - 1 && !point.isFirst;
        context.strokeStyle = point.ink ?? this.options.color;
        context.lineDashOffset = x;
        context.beginPath();
        context.moveTo(x - barSpacing / 2, isJoined ? before.y : y);
        context.lineTo(x - barSpacing / 2, y);
        context.lineTo(x + barSpacing / 2, y);
        context.stroke();
        before = { time, y };
      }
    });
  }
}
