/**
 * A forwarder that kills itself: `forward_child.ts FILE URL WHERE`. WHERE is `before-removal`
 * (the cluster has said that it has the packets, the file still has them), `after-removal`, or
 * `never`, for a test that kills it from outside.
 */
import { Forwarder } from "../../src/postgres/postgres.ts";
import { SendingSide } from "../../src/queue/sending_side.ts";

const [path = "", url = "", where = ""] = Deno.args;
const { removeThrough } = SendingSide.prototype;
SendingSide.prototype.removeThrough = async function (id: number): Promise<void> {
  if (where === "before-removal") Deno.kill(Deno.pid, "SIGKILL");
  await removeThrough.call(this, id);
  if (where === "after-removal") Deno.kill(Deno.pid, "SIGKILL");
};
const forwarder = await Forwarder.open(path, { url, durability: "power-loss", edge: "plant 7" });
const encoder = new TextEncoder();
for await (const { state } of forwarder.status()) {
  Deno.stderr.writeSync(encoder.encode(`${state}\n`));
}
await forwarder.closed;
