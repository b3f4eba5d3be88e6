/**
 * Prints every datagram that comes to a Unix socket, one JSON string a line.
 * A program of its own, because listening there is unstable in Deno:
 *
 * ```sh
 * deno run --unstable-net --allow-net --allow-read --allow-write \
 *   tests/support/datagram_listener.ts PATH
 * ```
 *
 * @module
 */
// deno-lint-ignore-file no-console -- it prints

const [path = ""] = Deno.args;
const socket = Deno.listenDatagram({ transport: "unixpacket", path });
console.log(JSON.stringify("listening"));
for await (const [bytes] of socket) console.log(JSON.stringify(new TextDecoder().decode(bytes)));
