/**
 * Delivers to a server that closes one connection by a reset, and ends. What
 * Deno's own exporter makes of it is for the test to see; ends with its stdin.
 *
 * Argument: the queue.
 */
import { instrument } from "../../src/observe/metrics.ts";
import { Sender } from "../../src/sender/sender.ts";
import { bytes } from "../support/bytes.ts";
import { ScriptedServer } from "../support/scripted_server.ts";

const [queue = ""] = Deno.args;
await using server = new ScriptedServer().start();
const sender = await Sender.open({ queue, remote: server.remote });
using _instrumented = instrument(sender, { attributes: { "service.instance.id": "under test" } });

await sender.enqueue(bytes("first\n"));
const first = await server.accept();
// Closed with unread bytes: the kernel sends a reset.
await first.read(1);
first.close();
const second = await server.accept();
const read = second.readToEnd();
await sender.drained();
await sender.close();
await read;
await Deno.stdin.readable.pipeTo(new WritableStream());
