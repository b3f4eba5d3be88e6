/**
 * For those who write a driver, a dialer or a tool: what a {@linkcode Sender} is made of.
 * Who only sends needs nothing of it.
 *
 * @example A server that has a standby
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import { type Dialer, tcpDialer } from "@sendq/sendq/advanced";
 *
 * const direct = tcpDialer({ hostname: "127.0.0.1", port: 4000 });
 * const standby = tcpDialer({ hostname: "127.0.0.1", port: 4001 });
 * let attempts = 0;
 * // Every other attempt goes to the standby.
 * const either: Dialer = {
 *   remote: "tcp://127.0.0.1:4000 or 4001",
 *   dial: (signal, onLookedUp) =>
 *     (attempts++ % 2 === 0 ? direct : standby).dial(signal, onLookedUp),
 * };
 *
 * const queue = `${await Deno.makeTempDir()}/outbox.db`;
 * await using sender = await Sender.open(queue, "tcp://127.0.0.1:4000", { dialer: either });
 * console.log(sender.remote); // "tcp://127.0.0.1:4000 or 4001"
 * ```
 *
 * @module
 */

export { systemClock } from "./base/clock.ts";
export type {
  Clock,
  DeliveryQueue,
  Dialer,
  PacketBatch,
  Random,
  SocketSample,
  Wire,
} from "./base/ports.ts";
export { TcpState } from "./base/ports.ts";
export { formatRemote, parseRemote } from "./base/remote.ts";
export { type TcpDialer, tcpDialer, type TcpDialerOptions } from "./kernel/dialer.ts";
export {
  type ListenDialer,
  listenDialer,
  type ListenDialerOptions,
} from "./kernel/listen_dialer.ts";
export type { EffectiveSocketOptions } from "./kernel/socket_options.ts";
export { TcpWire } from "./kernel/tcp_wire.ts";
export { SenderLock } from "./queue/sender_lock.ts";
export {
  type SqliteDatabase,
  type SqliteDriver,
  SqliteError,
  type SqliteOpenOptions,
  type SqliteStatement,
  type SqliteValue,
} from "./queue/sqlite/driver.ts";
export { nodeSqlite } from "./queue/sqlite/node_sqlite.ts";
