/**
 * What Linux knows about a TCP connection and Deno does not show: whether what was written has
 * arrived, whether the path is dead, how long a round trip takes; and the socket options that
 * Deno does not set. For connections of your own, without a queue.
 *
 * Runs on Linux, x86_64 and aarch64. Needs `--allow-ffi` for the C library; the error that asks
 * for it names its path. Every function takes a `Deno.TcpConn` or `Deno.TlsConn`, dialed or
 * accepted, or a socket of `node:net`, `node:tls` or `node:http`. None keeps a connection open
 * or takes an error away from it, but for `socketError`.
 *
 * Under TLS the counters are those of the socket below: they count ciphertext, with the handshake
 * in it.
 *
 * @example Fail fast: with one line, reads and writes fail 3 s after the path has died
 * ```ts
 * import { watch } from "@sendq/sendq/tcp";
 *
 * using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * using conn = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
 *
 * using watching = watch(conn, { stallTimeoutMs: 3000 });
 * await conn.write(new TextEncoder().encode("PING\r\n"));
 * // Should the path die here, the read rejects, and watching.signal fires.
 * const reply = conn.read(new Uint8Array(1024));
 *
 * using accepted = await server.accept();
 * await accepted.write(new TextEncoder().encode("+PONG\r\n"));
 * await reply;
 * ```
 *
 * @example Wait until the peer's kernel has all that was written
 * ```ts
 * import { drained, tcpInfo } from "@sendq/sendq/tcp";
 * import assert from "node:assert/strict";
 *
 * using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * using conn = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
 * using accepted = await server.accept();
 *
 * await conn.write(new TextEncoder().encode("temperature 21.5\n"));
 * await drained(conn, AbortSignal.timeout(10_000));
 *
 * const { rttUs, totalRetransmits } = tcpInfo(conn);
 * assert(rttUs > 0);
 * assert(totalRetransmits >= 0);
 * assert.equal(accepted.remoteAddr.port, conn.localAddr.port);
 * ```
 *
 * @module
 */

import { systemClock } from "../base/clock.ts";
import { WATCH_OPTIONS } from "../base/subpath_option_table.ts";
import { checkFields, resolveOptions } from "../base/options.ts";
import { errnoName, SO_ERROR, SOL_SOCKET } from "../kernel/constants.ts";
import { getSocketInt } from "../kernel/libc.ts";
import {
  applySocketOptions,
  checkSocketOptions,
  type CurrentSocketOptions,
  readSocketOptions,
  type SocketOptions,
} from "../kernel/socket_options.ts";
import { bytesNotHandedOver, type TcpConnection } from "./connection.ts";
import { waitUntilDrained } from "./drained.ts";
import { locate, readFrom } from "./located_socket.ts";
import { readSendQueue, type SendQueue } from "./send_queue.ts";
import { readTcpInfo, refusedCall, type TcpInfo } from "./tcp_info.ts";
import { SocketWatch, type Watch, type WatchOptions } from "./watch.ts";

/**
 * Sets socket options that Deno does not offer: keepalive with its times, TCP_USER_TIMEOUT, the
 * congestion control and others. What is left out stays as it is; the defaults of
 * {@linkcode SocketOptions} are those of a connection that sendq makes.
 *
 * @param options What to change.
 * @returns All options as they are now, read back from the kernel.
 * @throws {OptionError} A value is out of range; nothing was changed.
 * @throws {SocketOptionError} The kernel refused one; it names option and value. Others may
 *   have been set before it.
 * @throws {ClosedError} The connection has been closed.
 *
 * @example Keep an idle connection alive behind a load balancer, and notice its death
 * ```ts
 * import { setSocketOptions } from "@sendq/sendq/tcp";
 * import assert from "node:assert/strict";
 *
 * using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * using conn = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
 *
 * const { keepAlive } = setSocketOptions(conn, {
 *   keepAlive: { idleMs: 10_000, intervalMs: 1000, count: 3 },
 * });
 * assert.deepEqual(keepAlive, { idleMs: 10_000, intervalMs: 1000, count: 3 });
 *
 * (await server.accept()).close();
 * ```
 */
export function setSocketOptions(
  conn: TcpConnection,
  options: SocketOptions,
): CurrentSocketOptions {
  checkSocketOptions(options);
  const { unsupported: _, ...current } = locate(conn).change((fd) =>
    applySocketOptions(fd, options)
  );
  return current;
}

/**
 * Reads the socket options as they are.
 *
 * @throws {ClosedError} The connection has been closed.
 */
export function socketOptions(conn: TcpConnection): CurrentSocketOptions {
  return readFrom(conn, readSocketOptions);
}

/**
 * How many bytes are under way: written, and not acknowledged by the peer's TCP.
 *
 * @throws {ClosedError} The connection has been closed.
 * @throws {KernelCallError} The kernel refuses, as a sandbox may.
 */
export function sendQueue(conn: TcpConnection): SendQueue {
  return readFrom(conn, readSendQueue);
}

/**
 * All that the kernel tells of a connection: round-trip times, windows, retransmissions,
 * bytes acknowledged. It can be read while the connection is open, also after it has died.
 *
 * @throws {ClosedError} The connection has been closed.
 * @throws {KernelCallError} The kernel refuses, as a sandbox may.
 */
export function tcpInfo(conn: TcpConnection): TcpInfo {
  return readFrom(conn, readTcpInfo);
}

/**
 * Takes the pending error of a connection (SO_ERROR). Linux tells it once: a read after this one
 * gets `null`, which looks like an orderly end. So ask it only of a connection given up.
 *
 * @returns The errno's name, such as `"ECONNRESET"` or `"ETIMEDOUT"`; `undefined`: there is
 *   none, or somebody else was told.
 * @throws {ClosedError} The connection has been closed.
 * @throws {KernelCallError} The kernel refuses, as a sandbox may.
 */
export function socketError(conn: TcpConnection): string | undefined {
  return locate(conn).change((fd) => {
    const errno = getSocketInt(fd, SOL_SOCKET, SO_ERROR);
    if (errno === undefined) throw refusedCall("getsockopt(SO_ERROR)");
    return errno === 0 ? undefined : errnoName(errno);
  });
}

/**
 * Watches a connection and says when its path is dead, long before the kernel's quarter of an
 * hour. The connection stays yours: read, write and close it as always. Once closed it is not
 * watched any more, and the peer gets its FIN at once.
 *
 * An idle connection has nothing under way that could be missing: switch keepalive on
 * ({@linkcode setSocketOptions}), and its death is told as well.
 *
 * A timer keeps the process running, until `using` or the end of the connection ends it.
 *
 * @param options When it counts as dead, and what happens then.
 * @throws {OptionError} A value is out of range.
 * @throws {ClosedError} The connection has been closed.
 * @throws {KernelCallError} The kernel refuses a call that this needs.
 *
 * @example Log how a connection is doing, until it ends
 * ```ts
 * import { describeWatchVerdict, watch } from "@sendq/sendq/tcp";
 * import assert from "node:assert/strict";
 *
 * using server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
 * (await server.accept()).close();
 *
 * const words: string[] = [];
 * for await (const verdict of watch(conn)) {
 *   words.push(describeWatchVerdict(verdict));
 *   if (verdict.kind === "peer-closed") conn.close(); // Which ends the loop.
 * }
 * assert.equal(words.at(-1), "peer closed the connection");
 * ```
 */
export function watch(conn: TcpConnection, options: WatchOptions = {}): Watch {
  checkFields("", options, [WATCH_OPTIONS]);
  const { reset, ...limits } = resolveOptions(WATCH_OPTIONS, options);
  return new SocketWatch({ socket: locate(conn), clock: systemClock, limits, reset });
}

/**
 * Resolves once the peer's kernel has acknowledged everything that was written so far; its
 * program may crash before it reads it.
 *
 * "Written" is what the runtime has taken: await `conn.write()` first. Of a socket of Node's
 * what waits inside the process counts as well. It may wait for ever, so give it a signal, for
 * example that of {@linkcode watch}.
 *
 * @param signal Ends the waiting.
 * @throws {DeadConnectionError} The connection died before. Also where it was dead already:
 *   nobody can tell then whether its peer has read a byte.
 * @throws {ClosedError} It was closed before.
 * @throws {KernelCallError} The kernel refuses a call that this needs.
 */
export async function drained(conn: TcpConnection, signal?: AbortSignal): Promise<void> {
  await waitUntilDrained({
    socket: locate(conn),
    clock: systemClock,
    signal,
    bytesNotHandedOver: () => bytesNotHandedOver(conn),
  });
}

export type { ConnectionEnd, DenoConnection, NodeConnection, TcpConnection } from "./connection.ts";
export { DeadConnectionError, describeWatchVerdict, type WatchVerdict } from "./verdict.ts";
export type { SendQueue } from "./send_queue.ts";
export type { CongestionState, TcpInfo, TcpStateName } from "./tcp_info.ts";
export type { Watch, WatchOptions } from "./watch.ts";
export type {
  CurrentSocketOptions,
  KeepAliveOptions,
  SocketOptions,
} from "../kernel/socket_options.ts";
export type { LocalFault } from "../base/ports.ts";
export {
  ClosedError,
  KernelCallError,
  OptionError,
  SocketOptionError,
  UnsupportedPlatformError,
} from "../base/errors.ts";
