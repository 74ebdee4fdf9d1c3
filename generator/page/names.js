/** Moods as they are read. */

/** @param {string} mood */
export const title = (mood) => mood.charAt(0).toUpperCase() + mood.slice(1);

/** @param {{mood: string, blend: string | null}} controls */
export const nameOf = ({ mood, blend }) => (blend === null ? title(mood) : `${title(mood)} and ${title(blend)}`);
