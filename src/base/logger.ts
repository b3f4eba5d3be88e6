/**
 * Loggers that hold nobody up.
 *
 * @module
 */

import type { Logger } from "./ports.ts";

/** Says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * The same logger, whose faults are its own: one that throws, or returns a
 * promise that is rejected, must not end a delivery. There is nowhere else to
 * tell of it; what was to be logged is also a status.
 *
 * @param logger What the user handed in; undefined: a silent one.
 */
export function harmlessLogger(logger: Logger | undefined): Logger {
  if (logger === undefined) return silentLogger;
  const guarded = (level: keyof Logger) => (message: string, ...data: unknown[]) => {
    try {
      const returned = logger[level](message, ...data);
      if (returned instanceof Promise) returned.catch(() => {});
    } catch {
      // See above.
    }
  };
  return {
    debug: guarded("debug"),
    info: guarded("info"),
    warn: guarded("warn"),
    error: guarded("error"),
  };
}
