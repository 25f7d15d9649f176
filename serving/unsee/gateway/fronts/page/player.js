// One clock for all clips, so that the same moment is seen of each. Knows how to draw none of them.

export class Player {
  /** `bar`: the element that holds button, slider and output. */
  constructor(bar) {
    this.bar = bar;
    this.button = bar.querySelector("button");
    this.slider = bar.querySelector("input");
    this.output = bar.querySelector("output");
    this.screens = [];
    this.playing = false;
    this.button.addEventListener("click", () => this.setPlaying(!this.playing));
    this.slider.addEventListener("input", () => {
      this.setPlaying(false);
      this.show(Number(this.slider.value));
    });
  }

  /** Forget all clips. */
  clear() {
    this.setPlaying(false);
    this.screens = [];
    this.bar.hidden = true;
  }

  /** Show a clip beside the others; `show(index)` draws one of its frames. */
  add({ numFrames, fps, show }) {
    this.screens.push({ numFrames, show });
    this.fps = fps;
    this.length = Math.max(...this.screens.map((screen) => screen.numFrames));
    this.slider.max = this.length - 1;
    if (this.screens.length === 1) {
      this.bar.hidden = false;
      this.show(0);
      this.setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);
    } else {
      this.show(this.index);
    }
  }

  setPlaying(playing) {
    if (playing === this.playing) return;
    this.playing = playing;
    this.button.textContent = playing ? "Pause" : "Play";
    if (!playing) return;
    let last = performance.now();
    const tick = (now) => {
      if (!this.playing) return;
      const frames = Math.floor(((now - last) * this.fps) / 1000);
      if (frames > 0) {
        last += (frames * 1000) / this.fps;
        this.show((this.index + frames) % this.length);
      }
      requestAnimationFrame(tick);
    };
    requestAnimationFrame(tick);
  }

  show(index) {
    this.index = index;
    this.slider.value = index;
    const text = `frame ${index + 1} of ${this.length}`;
    this.slider.setAttribute("aria-valuetext", text);
    this.output.textContent = text;
    for (const { numFrames, show } of this.screens) show(Math.min(index, numFrames - 1));
  }
}
