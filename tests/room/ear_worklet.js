// Writes down what it hears, in pieces of about 0.1 s.
const PIECE = 37 * 128;

registerProcessor(
  "ear",
  class extends AudioWorkletProcessor {
    constructor() {
      super();
      this.piece = new Float32Array(PIECE);
      this.filled = 0;
    }

    process([[input]], [[output]]) {
      if (input !== undefined) this.piece.set(input, this.filled);
      this.filled += output.length;
      if (this.filled === PIECE) {
        this.port.postMessage(this.piece, [this.piece.buffer]);
        this.piece = new Float32Array(PIECE);
        this.filled = 0;
      }
      return true;
    }
  },
);
