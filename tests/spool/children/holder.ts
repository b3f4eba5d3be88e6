// Takes the right to send from a queue of a spool, publishes a text, says so, or why it could not,
// and keeps the right until its input ends or it is killed.
import { systemClock } from "../../../src/base/clock.ts";
import { sendingSideOf } from "../../../src/queue/queue.ts";
import { spoolQueue } from "../../../src/spool/spool.ts";

const [file = "", name = "", text = ""] = Deno.args;
const say = (words: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${words}\n`));
await using queue = await spoolQueue(file, name);
try {
  const tenure = await sendingSideOf(queue).takeTenure(systemClock);
  tenure.publish(text);
  say(`held ${Deno.pid}`);
  for await (const _ of Deno.stdin.readable); // To its end.
  await tenure.release();
} catch (error) {
  say(String(error));
}
