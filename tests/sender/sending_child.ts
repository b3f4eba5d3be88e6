/**
 * Sends numbered lines without end, four at a time, and prints each number once
 * its packet is on disk: what the parent may count on when it kills us.
 *
 * Arguments: queue, remote, first number.
 */
import { Sender } from "../../src/sender/sender.ts";

const [queue = "", remote = "", first = "1"] = Deno.args;
const sender = await Sender.open({ queue, remote, holdMs: 50 });
const encoder = new TextEncoder();
for (let number = Number(first);; number += 4) {
  await sender.enqueueMany(
    [0, 1, 2, 3].map((offset) => encoder.encode(`${number + offset}\n`)),
  );
  Deno.stdout.writeSync(encoder.encode(`${number + 3}\n`));
}
