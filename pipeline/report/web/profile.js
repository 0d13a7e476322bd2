// The volume profile beside the price: buyers and sellers by price, POC, value area, nodes.

class Profile {
  constructor(chart, candles, colors, shown) {
    Object.assign(this, { chart, candles, colors, shown });
    this.frame = null;
    candles.attachPrimitive(primitive("top", (context, area) => this.draw(context, area)));
  }

  // How wide the strip at the right is.
  static width(area) {
    return area < 520 ? 84 : Math.min(190, Math.max(120, Math.round(area * 0.14)));
  }

  fill(frame) {
    this.frame = frame;
  }

  // The profile of the last day in sight.
  current() {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const { slots, store } = this.frame;
    if (!range || !slots.length) return null;
    const slot = Math.max(0, Math.min(slots.length - 1, Math.floor(range.to)));
    const day = dayOf(slots[slot]);
    const found = store.days.find((each) => each.day === day) ?? store.days.at(-1);
    const name = this.shown("day24") ? "profile_24h" : "profile_session";
    const profile = found.profiles[name];
    return profile ? { ...profile, name } : null;
  }

  draw(context, area) {
    if (!this.frame || !this.shown("profile")) return;
    const profile = this.current();
    if (!profile) return;
    const width = Profile.width(area.width);
    const left = area.width - width;
    context.fillStyle = this.colors.background;
    context.globalAlpha = 0.78;
    context.fillRect(left, 0, width, area.height);
    context.globalAlpha = 1;
    context.fillStyle = this.colors.border;
    context.fillRect(left, 0, 1, area.height);
    context.font = `10px ${FONT}`;
    if (profile.bins) this.bins(context, profile, area, width);
    this.nodes(context, profile, area, left);
    this.lines(context, profile, area, left, width);
    if (area.width >= 520) this.title(context, profile, area, left);
  }

  bins(context, profile, area, width) {
    const { buy, sell } = profile.bins;
    const most = Math.max(...buy.map((volume, i) => volume + sell[i]));
    const scale = (width - 14) / most;
    const tall = profile.bin_size;
    const half = tall / 2;
    for (let i = 0; i < buy.length; i++) {
      const low = profile.low + i * tall;
      const top = tall ? this.candles.priceToCoordinate(low + tall) : this.candles.priceToCoordinate(low) - 2;
      const bottom = tall ? this.candles.priceToCoordinate(low) : top + 4;
      if (top === null || bottom === null || bottom < 0 || top > area.height) continue;
      const centre = low + half;
      const isInside = centre > profile.val - half && centre < profile.vah + half;
      const height = Math.max(1, bottom - top - (bottom - top > 3 ? 1 : 0));
      const bought = buy[i] * scale;
      const sold = sell[i] * scale;
      context.globalAlpha = isInside ? 0.75 : 0.32;
      context.fillStyle = this.colors.up;
      context.fillRect(area.width - bought, top, bought, height);
      context.fillStyle = this.colors.down;
      context.fillRect(area.width - bought - sold, top, sold, height);
    }
    context.globalAlpha = 1;
  }

  lines(context, profile, area, left, width) {
    let free = -Infinity;
    const levels = [["VAH", profile.vah, "value"], ["POC", profile.poc, "poc"], ["VAL", profile.val, "value"]];
    for (const [name, value, color] of levels) {
      const y = this.candles.priceToCoordinate(value);
      if (y === null || y < 0 || y > area.height) continue;
      context.strokeStyle = context.fillStyle = this.colors[color];
      context.lineWidth = name === "POC" ? 2 : 1;
      context.setLineDash(name === "POC" ? [] : [4, 3]);
      context.beginPath();
      context.moveTo(left, Math.round(y) + 0.5);
      context.lineTo(area.width, Math.round(y) + 0.5);
      context.stroke();
      if (y - 3 < free) continue;
      free = y + 11;
      const words = width > 100 ? `${name} ${average(value)}` : name;
      this.words(context, words, left + 5, y - 4);
    }
    context.setLineDash([]);
  }

  // Text on a ground of its own, so that it can be read upon bars.
  words(context, text, x, y) {
    const color = context.fillStyle;
    context.fillStyle = this.colors.background;
    context.globalAlpha = 0.75;
    context.fillRect(x - 2, y - 9, context.measureText(text).width + 4, 12);
    context.globalAlpha = 1;
    context.fillStyle = color;
    context.fillText(text, x, y);
  }

  // High volume nodes are filled triangles, low ones hollow.
  nodes(context, profile, area, left) {
    context.lineWidth = 1;
    for (const name of ["hvn", "lvn"]) {
      for (const node of profile[name]) {
        const y = this.candles.priceToCoordinate(node.price);
        if (y === null) continue;
        context.fillStyle = context.strokeStyle = this.colors.text;
        context.beginPath();
        context.moveTo(left + 7, y);
        context.lineTo(left + 1, y - 4);
        context.lineTo(left + 1, y + 4);
        context.closePath();
        if (name === "hvn") context.fill();
        context.stroke();
      }
    }
  }

  title(context, profile, area, left) {
    const end = seconds(profile.timestamp_utc) + 300;
    const name = profile.name === "profile_24h" ? "24 h to" : "session to";
    context.fillStyle = this.colors.muted;
    this.words(context, `${name} ${clock(end)}`, left + 5, 12);
    if (!profile.bins) this.words(context, "bars do not add up", left + 5, 26);
  }
}
