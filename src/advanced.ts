/**
 * For those who write a driver, a dialer or a tool: what a {@linkcode Sender} is made of.
 * Who only sends needs nothing of it.
 *
 * @example A dialer that logs in
 * ```ts
 * import { SessionRefusedError } from "@sendq/sendq";
 * import { type Dialer, tcpDialer, type Wire } from "@sendq/sendq/advanced";
 * import assert from "node:assert/strict";
 *
 * // A server, for this example.
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = listener.accept();
 *
 * async function logIn(wire: Wire): Promise<void> {
 *   await wire.write(new TextEncoder().encode("AUTH secret\r\n"));
 *   const buffer = new Uint8Array(256);
 *   const length = await wire.read(buffer) ?? 0;
 *   // Its answer acknowledges the login, without which packets must not follow.
 *   const answer = new TextDecoder().decode(buffer.subarray(0, length));
 *   if (!answer.startsWith("+OK")) throw new SessionRefusedError(answer);
 * }
 *
 * const plain = tcpDialer({ hostname: "127.0.0.1", port: listener.addr.port });
 * // For Sender.open(queue, remote, { dialer }); the session option does this, and more.
 * const dialer: Dialer = {
 *   remote: plain.remote,
 *   async dial(signal, onLookedUp) {
 *     const wire = await plain.dial(signal, onLookedUp);
 *     const abort = () => wire.abort();
 *     signal.addEventListener("abort", abort, { once: true });
 *     try {
 *       await logIn(wire);
 *       return wire;
 *     } catch (error) {
 *       wire.abort();
 *       throw error;
 *     } finally {
 *       signal.removeEventListener("abort", abort);
 *     }
 *   },
 * };
 *
 * const dialed = dialer.dial(AbortSignal.timeout(5000));
 * const server = await served;
 * await server.read(new Uint8Array(256));
 * await server.write(new TextEncoder().encode("+OK\r\n"));
 * const wire = await dialed;
 * assert.equal(wire.sample().sendQueueBytes, 0);
 * wire.close();
 * server.close();
 * listener.close();
 * ```
 *
 * @module
 */

export { systemClock } from "./base/clock.ts";
export type {
  Allocate,
  Clock,
  DeliveryQueue,
  Dialer,
  PacketBatch,
  Random,
  ServerChoice,
  SocketSample,
  Wire,
  WireOutcome,
} from "./base/ports.ts";
export { TcpState } from "./base/ports.ts";
export { formatRemote, parseRemote } from "./base/remote.ts";
export { failoverDialer, type FailoverOptions } from "./failover/failover_dialer.ts";
export { type TcpDialer, tcpDialer, type TcpDialerOptions } from "./kernel/dialer.ts";
export {
  type ListenDialer,
  listenDialer,
  type ListenDialerOptions,
} from "./kernel/listen_dialer.ts";
export type { EffectiveSocketOptions } from "./kernel/socket_options.ts";
export { TcpWire } from "./kernel/tcp_wire.ts";
export type { SpareSpace } from "./queue/guarded_store.ts";
export { SenderLock } from "./queue/sender_lock.ts";
export type { DiskReading } from "./queue/sqlite/disk_space.ts";
export {
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
  type SqliteOpenOptions,
  type SqliteStatement,
  type SqliteValue,
} from "./queue/sqlite/driver.ts";
export { nodeSqlite } from "./queue/sqlite/node_sqlite.ts";
export type { Tenure } from "./queue/tenure.ts";
