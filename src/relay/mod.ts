/**
 * Store and forward for programs that cannot be changed: they connect to a {@linkcode Relay} in the
 * server's place, what they send is cut into packets and stored, and a sender delivers it.
 *
 * @example Lines from a local program, delivered to a server
 * ```ts
 * import { Sender } from "@sendq/sendq";
 * import { Relay } from "@sendq/sendq/relay";
 * import assert from "node:assert/strict";
 *
 * // A server, for this example.
 * const server = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const served = server.accept().then((connection) => new Response(connection.readable).text());
 *
 * const queue = `${await Deno.makeTempDir()}/outbox.db`;
 * const sender = await Sender.open(queue, `tcp://127.0.0.1:${server.addr.port}`, {
 *   queueOptions: { overflow: "wait" },
 * });
 * const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
 * const relay = new Relay({ sender, listeners: [listener], input: "lines" });
 *
 * // A program that believes it speaks to its server.
 * const client = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
 * await client.write(new TextEncoder().encode("one\ntwo\n"));
 * await client.closeWrite();
 * await client.read(new Uint8Array(1)); // its end: everything is on disk
 * client.close();
 *
 * await relay.stop();
 * await sender.close();
 * assert.equal(await served, "one\ntwo\n");
 * server.close();
 * ```
 *
 * @module
 */

export { Relay } from "./relay.ts";
export type {
  RelayAddress,
  RelayConnection,
  RelayListener,
  RelayOptions,
  RelayStats,
  RelayStopOptions,
  Replies,
} from "./options.ts";
