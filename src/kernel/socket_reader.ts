/** What the kernel tells of any connected socket, whatever its protocol. */

import { KernelCallError } from "../base/errors.ts";
import { errnoName, SO_ERROR, SOL_SOCKET } from "./constants.ts";
import { getSocketInt, libc } from "./libc.ts";

const SIOCOUTQ = 0x5411n;
/** An error waits for whoever asks next. */
export const POLLERR = 0x8;
/** Both directions have ended. */
export const POLLHUP = 0x10;
/** The descriptor is not open. */
export const POLLNVAL = 0x20;
/** The peer writes no more; reported only where it is asked for. */
export const POLLRDHUP = 0x2000;

/** poll is asked again this often if a signal cut it short, which only errno could tell. */
const POLL_ATTEMPTS = 3;

/** `how` of shutdown(2): our FIN, behind what is queued. */
export const SHUT_WR = 1;

/** Reads Send-Q and poll, with buffers that are used again and again. */
export class SocketReader {
  readonly #sendQueue = new Int32Array(1);
  readonly #pollfd = new DataView(new ArrayBuffer(8));
  readonly #pollBytes = new Uint8Array(this.#pollfd.buffer);

  /**
   * `ioctl(SIOCOUTQ)`.
   *
   * @throws {KernelCallError} The call failed. Its output is not looked at: an untouched
   *   buffer would read as "everything delivered".
   */
  sendQueue(fd: number): number {
    this.#sendQueue[0] = -1;
    const code = libc().ioctl(fd, SIOCOUTQ, this.#sendQueue);
    const bytes = this.#sendQueue[0];
    if (code !== 0 || bytes < 0) throw failedCall("ioctl(SIOCOUTQ)", fd);
    return bytes;
  }

  /**
   * What `poll` says at once. Takes nothing away.
   *
   * @param fd The socket.
   * @param asked What to ask for; POLLHUP and POLLERR come unasked.
   * @throws {KernelCallError} The call failed.
   */
  events(fd: number, asked = 0): number {
    for (let attempt = 1; attempt <= POLL_ATTEMPTS; attempt++) {
      this.#pollfd.setInt32(0, fd, true);
      this.#pollfd.setInt32(4, asked, true); // short events, short revents
      const ready = libc().poll(this.#pollBytes, 1n, 0);
      const events = this.#pollfd.getInt16(6, true);
      if (ready >= 0 && (events & POLLNVAL) === 0) return events;
    }
    throw failedCall("poll", fd);
  }
}

/**
 * `getsockopt(SO_ERROR)`: the pending error's name, which is taken away; `undefined`: none.
 *
 * @param fd Negative: given back.
 * @throws {KernelCallError} It was given back.
 */
export function takeError(fd: number): string | undefined {
  const errno = getSocketInt(fd, SOL_SOCKET, SO_ERROR);
  if (errno === undefined && fd < 0) throw failedCall("getsockopt(SO_ERROR)", fd);
  // Where the kernel does not say, an end that nobody explains is no orderly one.
  if (errno === undefined) return "UNKNOWN";
  return errno === 0 ? undefined : errnoName(errno);
}

/** The error of a call that the kernel refuses on a socket that is ours. */
export function failedCall(call: string, fd: number): KernelCallError {
  return new KernelCallError(
    call,
    fd < 0
      ? `${call} on a connection that was already given back. Please report this.`
      : `The kernel refuses ${call}, as a sandbox may (seccomp, gVisor). Nothing was concluded ` +
        `from it, and without it nothing can be confirmed: permit the call.`,
  );
}
