import { KernelCallError } from "../base/errors.ts";
import { libc } from "./libc.ts";

/** CLOCK_BOOTTIME; include/uapi/linux/time.h */
const CLOCK_BOOTTIME = 7;

/**
 * Milliseconds since the machine was started, those for which it was suspended included:
 * what other machines think has passed.
 *
 * @throws {KernelCallError} The kernel does not say.
 */
export function bootMs(): number {
  // struct timespec: seconds and nanoseconds, 64 bits each on x86_64 and aarch64.
  const time = new BigInt64Array(2);
  if (libc().clock_gettime(CLOCK_BOOTTIME, time) !== 0) {
    throw new KernelCallError(
      "clock_gettime(CLOCK_BOOTTIME)",
      "The kernel does not say how long the machine has been running.",
    );
  }
  const [seconds = 0n, nanoseconds = 0n] = time;
  return Number(seconds) * 1000 + Number(nanoseconds) / 1e6;
}
