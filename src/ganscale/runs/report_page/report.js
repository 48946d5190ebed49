
// The grids of samples over training, by a slider or one after the other.

const frames = JSON.parse(document.getElementById("frames").textContent);
const at = (id) => document.getElementById(id);

if (frames.length > 1) {
  const [grid, slider, play] = [at("grid"), at("time"), at("play")];
  let timer = null;
  const show = () => {
    const frame = frames[Number(slider.value)];
    const words = `step ${frame.step.toLocaleString("en")}`;
    grid.src = `data:image/png;base64,${frame.png}`;
    grid.alt = `Grid of samples of ${words}`;
    at("step").textContent = words;
    slider.setAttribute("aria-valuetext", words);
  };
  slider.max = frames.length - 1;
  slider.value = frames.length - 1;
  slider.addEventListener("input", show);
  play.addEventListener("click", () => {
    const isPlaying = timer === null;
    clearInterval(timer);
    play.textContent = isPlaying ? "Pause" : "Play";
    play.setAttribute("aria-pressed", String(isPlaying));
    timer = isPlaying ? setInterval(forward, 400) : null;
  });
  const forward = () => {
    slider.value = (Number(slider.value) + 1) % frames.length;
    show();
  };
  at("controls").hidden = false;
  show();
}
