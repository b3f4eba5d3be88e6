import assert from "node:assert/strict";
import { QueueFileError } from "../../src/base/errors.ts";
import { OutboundQueue, sendingSideOf } from "../../src/queue/queue.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

Deno.test("a queue whose packets cannot be read is bad, though its counts can be", async () => {
  using dir = new TempDir();
  await using server = new ReadingServer();
  await using queue = await OutboundQueue.open(dir.queue);
  const sending = sendingSideOf(queue);
  const { readBatches } = sending;
  const failure = new QueueFileError("io", queue.path, "the disk cannot be read");
  sending.readBatches = () => Promise.reject(failure);
  await using sender = await Sender.open(queue, server.remote, { holdMs: 0 });
  await sender.enqueue("one\n");
  await until("that is said", () => sender.condition.tone === "bad");
  const { headline, detail } = sender.condition;
  assert.deepEqual([headline, detail], ["Cannot read its queue", failure.message]);
  assert.equal(sender.queueFailure, failure.message);
  sending.readBatches = readBatches;
  await sender.drained();
  assert.equal(sender.condition.tone, "good");
  assert.equal(sender.queueFailure, undefined);
});
