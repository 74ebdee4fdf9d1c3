// Counts what a page of the listening room hears, as its audio thread tells it, and how far that thread falls behind.
{
  const Node = window.AudioWorkletNode;
  window.watched = { frames: 0, held: 0, ready: 0, behind: 0 };
  let begun = null;
  window.AudioWorkletNode = class extends Node {
    constructor(context, ...rest) {
      super(context, ...rest);
      this.port.addEventListener("message", ({ data }) => {
        if (!data.started) return;
        window.watched.frames++;
        window.watched.held += data.held;
        window.watched.ready = data.ready;
        const apart = performance.now() / 1000 - context.currentTime;
        begun ??= apart;
        window.watched.behind = Math.max(window.watched.behind, apart - begun);
      });
    }
  };
}
