// Numbers, times and metrics in words.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (number) => whole.format(number);

/** Return a value with four significant digits. */
export function brief(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e4 && size < 1e15) return whole.format(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e15)) return value.toExponential(2);
  return String(Number(value.toPrecision(4)));
}

/** Return the label of a tick: 20k, 1.5M, 0.25. */
export function tick(value) {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= unit) return Number((value / unit).toPrecision(4)) + letter;
  }
  if (size !== 0 && size < 1e-3) return value.toExponential(0);
  return String(Number(value.toPrecision(4)));
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const minutes = Math.round(seconds / 60);
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Return a place on the horizontal axis with its unit. */
export function place(x, value) {
  if (x === "hours") return `${brief(value)} hours`;
  return `${x === "steps" ? "step " : ""}${count(value)}${x === "images" ? " images" : ""}`;
}

const MEANINGS = {
  loss_discriminator: "Loss of the discriminator",
  loss_generator: "Loss of the generator",
  d_real: "The discriminator's mean output for real images",
  d_fake: "The discriminator's mean output for generated images",
  d_accuracy: "Share of pairs in which the real image is ranked higher",
  images_per_second: "Speed of training",
  learning_rate_generator: "Learning rate of the generator",
  learning_rate_discriminator: "Learning rate of the discriminator",
  gradient_norm_generator: "Norm of the generator's gradient",
  gradient_norm_discriminator: "Norm of the discriminator's gradient",
  ema_half_life: "Half-life of the weights' average, in images",
  augment_probability: "Probability of augmentation",
  seconds_step: "Seconds a step",
  seconds_data: "Seconds a step waits for data",
  fid: "Fréchet inception distance: lower is better",
  kid: "Kernel inception distance: lower is better",
  inception_score: "Inception score: higher is better",
  precision: "Share of generated images that look real: higher is better",
  recall: "Share of real images that are generated: higher is better",
  density: "Density: higher is better",
  coverage: "Coverage: higher is better",
  class_entropy: "Evenness of the generated classes: 1 is even",
  diversity: "Spread of generated images against real ones",
};

export const meaning = (metric) => (Object.hasOwn(MEANINGS, metric) ? MEANINGS[metric] : "");

const FIRST = ["loss_discriminator", "loss_generator", "fid", "kid", "d_real", "d_fake"];
const FEW = 6;

/** Return the metrics that are drawn before anyone has chosen. */
export function firstMetrics(names) {
  const known = FIRST.filter((name) => names.includes(name));
  const rest = names.filter((name) => !FIRST.includes(name));
  return [...known, ...rest].slice(0, Math.max(known.length, Math.min(FEW, names.length)));
}
