/** What the senders of a spool say, and who reads it. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/base/clock.ts";
import { QueueFileError } from "../../src/base/errors.ts";
import { reportsPathOf } from "../../src/spool/address.ts";
import { readSpoolNotice } from "../../src/spool/reports.ts";
import type { Tenure } from "../../src/queue/tenure.ts";
import { lines } from "../queue/helpers.ts";
import { tenureOf } from "../queue/threads.ts";
import { until } from "../support/until.ts";
import { TempDir } from "../support/temp_dir.ts";
import { child, openAll } from "./helpers.ts";

const PID = Deno.pid;

/** What is read of queues 1 to 3. */
function noticesOf(file: string): Promise<unknown[]> {
  return Promise.all([1, 2, 3].map((queue) => readSpoolNotice(file, queue, systemClock)));
}

Deno.test("each sender's text is read, and nothing once it has ended", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b", "c"]);
  const [a, b, c] = queues.all;
  assert.deepEqual(await noticesOf(dir.queue), [undefined, undefined, undefined]);
  const first = await tenureOf(a);
  const third = await tenureOf(c);
  first.publish("one says something long");
  third.publish("three");
  const three = { pid: PID, text: "three" };
  assert.deepEqual(await noticesOf(dir.queue), [
    { pid: PID, text: "one says something long" },
    undefined,
    three,
  ]);
  assert.equal((Deno.statSync(reportsPathOf(dir.queue)).mode ?? 0) & 0o777, 0o600);
  // The next text takes the place of all of the last one.
  first.publish("one");
  assert.deepEqual(await noticesOf(dir.queue), [{ pid: PID, text: "one" }, undefined, three]);
  await first.release();
  first.publish("nobody says");
  assert.deepEqual(await noticesOf(dir.queue), [undefined, undefined, three]);
  // One that begins has not said anything yet.
  const again = await tenureOf(a);
  const second = await tenureOf(b);
  assert.deepEqual(await noticesOf(dir.queue), [undefined, undefined, three]);
  second.publish("zwei");
  await third.release();
  assert.deepEqual(await noticesOf(dir.queue), [undefined, { pid: PID, text: "zwei" }, undefined]);
  await second.release();
  await again.release();
  assert.deepEqual(await noticesOf(dir.queue), [undefined, undefined, undefined]);
});

Deno.test("texts of any size that is allowed stay in their places", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b", "c"]);
  await using stack = new AsyncDisposableStack();
  const tenures: Tenure[] = [];
  for (const queue of queues.all) tenures.push(stack.use(await tenureOf(queue)));
  const most = 32 * 1024 - 16 - `${PID}\n\0`.length;
  for (const size of [0, 1, most]) {
    for (const [i, tenure] of tenures.entries()) tenure.publish(String(i).repeat(size));
    assert.deepEqual(
      await noticesOf(dir.queue),
      tenures.map((_, i) => ({ pid: PID, text: String(i).repeat(size) })),
    );
  }
  assert.throws(() => tenures[0]?.publish("x".repeat(most + 1)), RangeError);
  assert.equal((await readSpoolNotice(dir.queue, 1, systemClock))?.text, "0".repeat(most));
});

Deno.test("another process's texts are read, and nothing of one that was killed", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b", "c"]);
  const [, b] = queues.all;
  const holder = child("holder.ts", dir.queue, "a", "old");
  const said = lines(holder.stdout);
  assert.equal((await said.next()).value, `held ${holder.pid}`);
  assert.deepEqual(await noticesOf(dir.queue), [
    { pid: holder.pid, text: "old" },
    undefined,
    undefined,
  ]);
  holder.kill("SIGKILL");
  await holder.status;
  await said.return?.();
  await holder.stdin.abort().catch(() => {});
  assert.deepEqual(await noticesOf(dir.queue), [undefined, undefined, undefined]);
  {
    await using tenure = await tenureOf(b);
    assert.deepEqual(await noticesOf(dir.queue), [undefined, undefined, undefined]);
    tenure.publish("new");
    const notices = [undefined, { pid: PID, text: "new" }, undefined];
    assert.deepEqual(await noticesOf(dir.queue), notices);
  }
});

Deno.test("nor of one whose number this process has, as in a container that was started again", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b", "c"]);
  const [a, b] = queues.all;
  const before = await tenureOf(a);
  before.publish("old");
  const left = Deno.readFileSync(reportsPathOf(dir.queue));
  await before.release();
  // As it would stand there, had the process been killed.
  Deno.writeFileSync(reportsPathOf(dir.queue), left);
  await using tenure = await tenureOf(b);
  tenure.publish("new");
  assert.deepEqual(
    await noticesOf(dir.queue),
    [undefined, { pid: PID, text: "new" }, undefined],
  );
});

Deno.test("a file of reports that is removed or replaced while senders run is made again", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a", "b"]);
  const [a, b] = queues.all;
  await using first = await tenureOf(a);
  await using second = await tenureOf(b);
  const reports = reportsPathOf(dir.queue);
  first.publish("one");
  second.publish("two");
  const both = JSON.stringify([{ pid: PID, text: "one" }, { pid: PID, text: "two" }, undefined]);
  const saidAgain = async () => {
    assert.equal(first.misplaced(), undefined);
    return JSON.stringify(await noticesOf(dir.queue)) === both;
  };
  Deno.removeSync(reports);
  await until("what both have said, though neither has news", saidAgain);
  // As a program does that restores what it has saved.
  Deno.writeTextFileSync(dir.file("other"), "something else");
  Deno.renameSync(dir.file("other"), reports);
  await until("the same once more", saidAgain);
  second.publish("2");
  assert.deepEqual((await noticesOf(dir.queue))[1], { pid: PID, text: "2" });
});

Deno.test("a file of reports that is a symbolic link is not followed", async () => {
  using dir = new TempDir();
  await using queues = await openAll(dir.queue, ["a"]);
  await using tenure = await tenureOf(queues.all[0]);
  const other = dir.file("precious");
  Deno.writeTextFileSync(other, "precious");
  const ln = new Deno.Command("ln", { args: ["-s", other, reportsPathOf(dir.queue)] });
  assert(ln.outputSync().success);
  assert.throws(
    () => tenure.publish("x"),
    (error) => error instanceof QueueFileError && error.reason === "misplaced",
  );
  assert.equal(await readSpoolNotice(dir.queue, 1, systemClock), undefined);
  assert.equal(Deno.readTextFileSync(other), "precious");
});
