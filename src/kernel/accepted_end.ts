/**
 * How a connection that was accepted here ends: by a reset, unless it was told that it may end
 * in order. So its client can tell "all is well" from every other end, also from that of a
 * process that was killed, whose kernel sends a reset with SO_LINGER {1, 0} in the place of a FIN.
 * As long as that is set, a FIN that gets lost is not repeated: so it is taken back before
 * an orderly end (kernel_facts, section 6.3).
 */

import { KernelCallError } from "../base/errors.ts";
import {
  type ConnectionAddresses,
  findDescriptor,
  type FoundDescriptor,
  hasEnds,
  nextDescriptorHint,
} from "./descriptor.ts";
import { libc } from "./libc.ts";
import { disconnect, setLinger } from "./tcp_wire.ts";

/** `MSG_PEEK | MSG_DONTWAIT`. */
const PEEK = 0x02 | 0x40;
/** Just accepted, it most likely has the number below the lowest free one. */
const BELOW_HINT = 2;

export class AcceptedEnd {
  readonly #found: FoundDescriptor;
  readonly #onRefused: (error: KernelCallError) => void;

  /**
   * Takes care of a connection: from now on whatever closes it resets it.
   *
   * @param conn The connection; whoever has accepted it closes it.
   * @param onRefused Called where the kernel does not reset it when it should.
   * @returns `undefined`: it is dead already.
   * @throws {KernelCallError} The kernel refuses the calls that it takes.
   * @throws {Deno.errors.NotCapable} The C library is not granted.
   * @throws {UnsupportedPlatformError} There is none.
   */
  static of(
    conn: ConnectionAddresses,
    onRefused: (error: KernelCallError) => void,
  ): AcceptedEnd | undefined {
    const hint = Math.max(0, (nextDescriptorHint() ?? 0) - BELOW_HINT);
    const found = findDescriptor(conn, hint);
    if (found === undefined) return undefined;
    if (setLinger(found.fd, true)) return new AcceptedEnd(found, onRefused);
    throw new KernelCallError(
      "setsockopt(SO_LINGER)",
      "The kernel refuses SO_LINGER, as a sandbox may (seccomp): a client of a process that is " +
        "killed sees an orderly end. Permit the call.",
    );
  }

  private constructor(found: FoundDescriptor, onRefused: (error: KernelCallError) => void) {
    this.#found = found;
    this.#onRefused = onRefused;
  }

  /** Whether its client's end is all that there is left to read. Reads nothing. */
  get clientHasEnded(): boolean {
    return this.#lives() && libc().recv(this.#found.fd, new Uint8Array(1), 1n, PEEK) === 0n;
  }

  /**
   * The close that follows is an orderly end: a FIN, behind all that was written. Should the
   * kernel refuse what it took before, the FIN is sent as well, and only not repeated.
   */
  permitOrder(): void {
    if (this.#lives()) setLinger(this.#found.fd, false);
  }

  /**
   * Resets it now. Not left to the close: Deno shuts the connection down first, and a client
   * that has ended its side itself would see nothing but that.
   */
  reset(): void {
    if (!this.#lives()) return;
    // A sandbox may say yes, and do nothing.
    if (disconnect(this.#found.fd) && !this.#lives()) return;
    this.#onRefused(
      new KernelCallError(
        "connect(AF_UNSPEC)",
        "The kernel refuses connect(AF_UNSPEC), as a sandbox may (seccomp, gVisor): a client that " +
          "is to see a reset may see an orderly end. Permit the call.",
      ),
    );
  }

  /** The number may be somebody else's, where the connection was closed already. */
  #lives(): boolean {
    return hasEnds(this.#found.fd, this.#found);
  }
}
