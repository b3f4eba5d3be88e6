/** Loggers that hold nobody up. */

import type { Logger } from "./ports.ts";

/** One whose levels all do the same. */
export function loggerOf(
  log: (level: keyof Logger, message: string, data: readonly unknown[]) => unknown,
): Logger {
  const at = (level: keyof Logger) => (message: string, ...data: unknown[]) =>
    log(level, message, data);
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

/** Says nothing. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * The same logger, silent unless given, whose faults are its own: one that throws, or returns a
 * promise that is rejected, must not end a delivery. What was to be logged is also a status.
 */
export function harmlessLogger(logger: Logger | undefined): Logger {
  if (logger === undefined) return silentLogger;
  return loggerOf((level, message, data) => {
    try {
      const returned = logger[level](message, ...data);
      if (returned instanceof Promise) returned.catch(() => {});
    } catch {
      // See above.
    }
  });
}
