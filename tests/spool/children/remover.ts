// Removes all dead letters of a queue of a spool, as an operator does beside a running sender.
import { spoolQueue } from "../../../src/spool/spool.ts";

const [file = "", name = ""] = Deno.args;
await using queue = await spoolQueue(file, name);
await queue.removeDeadLetters({ firstId: 0, lastId: Number.MAX_SAFE_INTEGER });
