// Scales and ticks of a chart.

/** Return a function from values of [low, high] to pixels of [from, to]. */
export function scale(low, high, from, to, isLog = false) {
  const bend = isLog ? Math.log10 : (value) => value;
  const [a, b] = [bend(low), bend(high)];
  const width = b - a || 1;
  return (value) => from + ((bend(value) - a) / width) * (to - from);
}

/** Return about `wanted` round numbers within [low, high]. */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n += 1) {
    found.push(Number((n * step).toPrecision(12)));
  }
  return found;
}

/** Return the powers of ten within [low, high], and 2 and 5 times them where those are few. */
export function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const factors = decades < 1 ? [1, 2, 3, 5, 7] : decades < 3 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.round(decades / 5));
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    if (power % every) continue;
    for (const factor of factors) {
      const value = Number((factor * 10 ** power).toPrecision(12));
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length > 1 ? found : [low, high];
}

/** Return the place of the value of an ascending list that is nearest to `wanted`. */
export function nearest(sorted, wanted) {
  let [low, high] = [0, sorted.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < wanted) low = middle;
    else high = middle;
  }
  return Math.abs(sorted[high] - wanted) < Math.abs(sorted[low] - wanted) ? high : low;
}

/** Return the moving average of values, without the pull of its start; gaps stay gaps. */
export function smooth(values, weight) {
  if (!weight) return values;
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}
