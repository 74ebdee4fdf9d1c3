// Hears what reaches the loudspeaker: all that is connected to a destination is connected to a recorder as well, whose
// source is in `worklet`.
{
  const connect = AudioNode.prototype.connect;
  const parts = [];
  let [silent, began] = [0, false];
  window.ear = {
    samples: 0,
    gap: 0, // samples of the longest silence after the first sound
    tape() {
      const bytes = new Uint8Array(4 * window.ear.samples);
      let place = 0;
      for (const part of parts) {
        bytes.set(new Uint8Array(part.buffer), place);
        place += part.byteLength;
      }
      let text = "";
      for (let at = 0; at < bytes.length; at += 32_768) text += String.fromCharCode(...bytes.subarray(at, at + 32_768));
      return btoa(text);
    },
  };
  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) {
      const context = this.context;
      context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" }))).then(() => {
        const ear = new AudioWorkletNode(context, "ear", { channelCount: 1, channelCountMode: "explicit" });
        ear.port.onmessage = ({ data }) => {
          parts.push(data);
          window.ear.samples += data.length;
          for (const value of data) {
            silent = Math.abs(value) > 0.003 ? 0 : silent + (began ? 1 : 0);
            began ||= Math.abs(value) > 0.003;
            window.ear.gap = Math.max(window.ear.gap, silent);
          }
        };
        connect.call(this, ear);
        connect.call(ear, target); // which it gives nothing; but what leads nowhere is not asked
      });
    }
    return connect.call(this, target, ...rest);
  };
}
