/**
 * Text that somebody else wrote, made safe for a terminal and for a log.
 *
 * @module
 */

/** Control characters, and those that change the direction of what follows. */
const CONTROLS = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Writes control characters as `\x1b`, `\u202e`, so that they cannot recolour a
 * terminal, hide a line, or begin a new one: a server's answer, a path and
 * another process's notice are all somebody else's text.
 *
 * @param text Any text.
 */
export function printable(text: string): string {
  return text.replaceAll(CONTROLS, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return code.length <= 2 ? `\\x${code.padStart(2, "0")}` : `\\u${code.padStart(4, "0")}`;
  });
}
