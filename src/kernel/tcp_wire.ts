/**
 * One established TCP connection: bytes go through Deno, readings through a
 * duplicate of its descriptor, which stays readable after Deno closed its own.
 */

import { KernelCallError } from "../base/errors.ts";
import { type LocalFault, type SocketSample, TcpState, type Wire } from "../base/ports.ts";
import { formatHostPort } from "../base/remote.ts";
import { IPPROTO_TCP, SO_LINGER, SOL_SOCKET, TCP_INFO } from "./constants.ts";
import { closeDescriptor, libc } from "./libc.ts";
import { captureLocalPath, findLocalFault, type LocalPath } from "./local_fault.ts";
import { type EffectiveSocketOptions, setKeepAlive } from "./socket_options.ts";
import { failedCall, POLLERR, POLLHUP, SHUT_WR, SocketReader, takeError } from "./socket_reader.ts";
import { decodeTcpInfo, TCP_INFO_BYTES } from "./tcp_info.ts";
import { asWireError } from "./wire_error.ts";

/** The kernel counts both in whole seconds. */
const ASKING = { idleMs: 1000, intervalMs: 1000, count: 9 } as const;

export class SocketSampler {
  readonly #reader = new SocketReader();
  readonly #info = new Uint8Array(TCP_INFO_BYTES);
  readonly #infoLength = new Uint32Array(1);

  /**
   * One reading. TCP_INFO is read before Send-Q, so an acknowledgement that comes
   * in between makes `written - sendQueueBytes` the larger count, never the
   * smaller: bytes_acked beyond it is a contradiction, not a race.
   *
   * @throws {KernelCallError} A call failed. Its output is not looked at: an
   *   untouched buffer would read as "everything delivered".
   */
  sample(fd: number): SocketSample {
    const info = this.#readInfo(fd);
    const sendQueueBytes = this.#reader.sendQueue(fd);
    // Both directions are open while it is established: nobody has to be asked.
    const hangup = info.state !== TcpState.ESTABLISHED &&
      (this.#reader.events(fd) & POLLHUP) !== 0;
    return { ...info, sendQueueBytes, hangup };
  }

  #readInfo(fd: number): ReturnType<typeof decodeTcpInfo> {
    this.#infoLength[0] = TCP_INFO_BYTES;
    const code = libc().getsockopt(fd, IPPROTO_TCP, TCP_INFO, this.#info, this.#infoLength);
    if (code !== 0) throw failedCall("getsockopt(TCP_INFO)", fd);
    return decodeTcpInfo(this.#info, this.#infoLength[0]);
  }

  /** Whether an error waits for whoever asks the socket next. Takes nothing away. */
  hasPendingError(fd: number): boolean {
    return (this.#reader.events(fd) & POLLERR) !== 0;
  }
}

/**
 * Ends a connection at once: its send queue is dropped and a reset leaves. Its
 * counters are worthless afterwards (kernel_facts, section 1).
 *
 * Lingering alone, which stays as the second line, acts when the last descriptor is
 * closed, but `Deno.TcpConn.close()` calls shutdown() before that: a peer that
 * has received everything written so far would see an orderly end, perhaps in
 * the middle of a packet.
 *
 * @returns Whether the kernel did it. gVisor knows the lingering alone: the peer then
 *   sees an end before the reset, and still nothing old arrives later.
 */
export function resetConnection(fd: number): boolean {
  const lingers = setLinger(fd, true);
  return disconnect(fd) || lingers;
}

/**
 * Sets what becomes of a connection when its last descriptor is closed: a reset, or an orderly
 * end. Says whether the kernel took it.
 */
export function setLinger(fd: number, resets: boolean): boolean {
  const linger = new Int32Array([resets ? 1 : 0, 0]); // struct linger { l_onoff, l_linger }
  return libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, linger.byteLength) === 0;
}

/** connect(2) with AF_UNSPEC: resets now. Says whether the kernel says that it did. */
export function disconnect(fd: number): boolean {
  const unspecified = new Uint8Array(16); // struct sockaddr with sa_family AF_UNSPEC
  return libc().connect(fd, unspecified, unspecified.byteLength) === 0;
}

/** What bytes go through: a `Deno.TcpConn`, or what is used as one. */
export type ByteConn = Pick<
  Deno.TcpConn,
  "localAddr" | "remoteAddr" | "read" | "write" | "close"
>;

/**
 * An established connection; made by `tcpDialer`.
 *
 * @category Dialer
 */
export class TcpWire implements Wire {
  /** `"192.0.2.1:50123"`. */
  readonly localAddress: string;
  /** `"192.0.2.7:4000"`. */
  readonly remoteAddress: string;
  /** What the kernel took of the socket options. */
  readonly effectiveOptions: EffectiveSocketOptions;
  /** The interface that the connection left by when it was made, where known. */
  readonly device: string | undefined;
  readonly #conn: ByteConn;
  #path: LocalPath;
  readonly #sampler = new SocketSampler();
  /** -1 once given back: the number may be somebody else's by then. */
  #fd: number;

  /**
   * Takes over connection and descriptor; gives both back at the end.
   *
   * @param conn The connection.
   * @param fd A duplicate of its descriptor.
   * @param path Its way out of this host.
   * @param effectiveOptions What the kernel took.
   */
  constructor(
    conn: ByteConn,
    fd: number,
    path: LocalPath,
    effectiveOptions: EffectiveSocketOptions,
  ) {
    this.#conn = conn;
    this.#fd = fd;
    this.#path = path;
    this.effectiveOptions = effectiveOptions;
    this.device = path.device?.name;
    // Deno leaves out the zone, without which a link-local address is nowhere.
    const zone = path.remote.scopeId === 0 ? "" : `%${this.device ?? path.remote.scopeId}`;
    const { localAddr, remoteAddr } = conn;
    this.localAddress = formatHostPort(localAddr.hostname + zone, localAddr.port);
    this.remoteAddress = formatHostPort(remoteAddr.hostname + zone, remoteAddr.port);
  }

  /** See {@linkcode Wire.write}. */
  write(bytes: Uint8Array): Promise<number> {
    return this.#asWireError(() => this.#conn.write(bytes), "written to");
  }

  /** See {@linkcode Wire.read}. */
  read(buffer: Uint8Array): Promise<number | null> {
    return this.#asWireError(() => this.#conn.read(buffer), "read from");
  }

  /** See {@linkcode Wire.sample}. */
  sample(): SocketSample {
    return this.#sampler.sample(this.#fd);
  }

  /** See {@linkcode Wire.takeSocketError}. */
  takeSocketError(): string | undefined {
    return takeError(this.#fd);
  }

  /** Has keepalive ask once a second, or as the socket options say; see {@linkcode Wire.askPeer}. */
  askPeer(asking: boolean): void {
    const { keepAlive = false } = this.effectiveOptions;
    if (setKeepAlive(this.#fd, asking ? ASKING : keepAlive)) return;
    throw new KernelCallError(
      "setsockopt(SO_KEEPALIVE)",
      "The kernel refuses keepalive, without which nobody can tell whether a quiet peer is " +
        "still there: what it has acknowledged cannot be confirmed. Let this process set " +
        "SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT.",
    );
  }

  /** See {@linkcode Wire.localFault}. */
  localFault(): LocalFault | undefined {
    return findLocalFault(this.#path);
  }

  /** See {@linkcode Wire.noteLink}. */
  noteLink(): void {
    this.#path = captureLocalPath(this.#path);
  }

  /** See {@linkcode Wire.shutdownWrite}. */
  shutdownWrite(): void {
    if (libc().shutdown(this.#fd, SHUT_WR) === 0) return;
    // A dead connection refuses (ENOTCONN), and nothing else does.
    if (this.sample().state !== TcpState.CLOSE) throw failedCall("shutdown(SHUT_WR)", this.#fd);
  }

  /** See {@linkcode Wire.abort}. */
  abort(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    const reset = resetConnection(fd);
    this.close();
    if (!reset) throw failedCall("connect(AF_UNSPEC)", fd);
  }

  /** See {@linkcode Wire.close}. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#conn.close();
    closeDescriptor(fd);
  }

  #asWireError<T>(operation: () => Promise<T>, verb: string): Promise<T> {
    const what = `${this.remoteAddress} could not be ${verb}`;
    return asWireError(operation, what, () => this.#fd < 0);
  }
}
