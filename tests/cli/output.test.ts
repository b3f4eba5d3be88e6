/** What is printed, for readers that go and disks that are full. */
import assert from "node:assert/strict";
import { main, type StandardOutput } from "../../src/cli/main.ts";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { ReadingServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { within } from "../support/until.ts";

/** Standard output, until somebody says that it is not any more. */
class FailingOutput implements StandardOutput {
  text = "";
  readonly #failure: Error;
  #writes: number;

  /** @param writes So many writes go well. */
  constructor(writes: number, failure: Error) {
    this.#writes = writes;
    this.#failure = failure;
  }

  write(part: Uint8Array): Promise<number> {
    return new Promise((resolve) => resolve(this.writeSync(part)));
  }

  writeSync(part: Uint8Array): number {
    if (this.#writes-- <= 0) throw this.#failure;
    this.text += new TextDecoder().decode(part);
    return part.length;
  }

  isTerminal(): boolean {
    return false;
  }
}

async function runInto(
  stdout: StandardOutput,
  args: readonly string[],
): Promise<{ readonly code: number; readonly err: string }> {
  const stderr = new FailingOutput(Infinity, new Error());
  const stdin = {
    read: () => Promise.resolve(null),
    readable: ReadableStream.from<Uint8Array>([]),
    isTerminal: () => false,
  };
  const code = await within(`the end of ${args.join(" ")}`, main(args, { stdin, stdout, stderr }));
  return { code, err: stderr.text };
}

async function queueIn(dir: TempDir): Promise<string> {
  await using queue = await OutboundQueue.open(dir.queue);
  await queue.enqueueMany([new Uint8Array(10), new Uint8Array(10)]);
  return dir.queue;
}

const gone = (writes: number) => new FailingOutput(writes, new Deno.errors.BrokenPipe("gone"));

Deno.test("what would go on ends with its reader", async (t) => {
  using dir = new TempDir();
  const queue = await queueIn(dir);
  await using server = new ReadingServer();
  for (
    const args of [
      ["status", "-q", queue, "--watch", "--interval", "100ms"],
      ["status", "-q", queue, "--watch", "--interval", "100ms", "--json"],
      // Longer than the test waits.
      ["probe", server.remote, "--seconds", "1h"],
    ]
  ) {
    await t.step(args.join(" "), async () => {
      assert.deepEqual(await runInto(gone(1), args), { code: 0, err: "" });
    });
  }
});
