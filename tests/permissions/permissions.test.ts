/** The two-line program, each permission taken away in turn. */
import assert from "node:assert/strict";
import { leftOutWithout, LIBC, sendPermissions } from "../cli/helpers.ts";
import { OutboundQueue, Sender } from "../../mod.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";
import { until } from "../support/until.ts";

const PROGRAM = new URL("two_lines.ts", import.meta.url).pathname;

interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs the program as a service would: without a terminal. */
async function run(permissions: readonly string[], queue: string, remote: string): Promise<Ended> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", ...permissions, PROGRAM, queue, remote],
    env: { NO_COLOR: "1" },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout), err: decoder.decode(stderr) };
}

function flagsIn(message: string): string[] {
  return message.split(/\s+/).filter((word) => word.startsWith("--allow-"))
    // Without the right to look, every path is named that it may have.
    .map((flag) => flag.startsWith("--allow-ffi=") ? `--allow-ffi=${LIBC}` : flag);
}

const WORDS = 'NotCapable: not permitted here; add to "deno run" what is missing:';

Deno.test("two lines: with no permission all are named at once, and with those it runs", async () => {
  using dir = new TempDir();
  await using server = new ScriptedServer().start();
  const texts = server.readAll();
  const refused = await run([], dir.queue, server.remote);
  assert.equal(refused.code, 1);
  assert(refused.err.includes(WORDS), refused.err);
  const flags = flagsIn(refused.err);
  assert.deepEqual(flags, sendPermissions(server.remote, dir.queue));

  const ran = await run(flags, dir.queue, server.remote);
  assert.deepEqual(ran, { code: 0, out: "", err: "" });
  assert.deepEqual(texts.join(""), "temperature 21.5\n");
});

Deno.test("two lines: each permission that is missing is named alone, as itself", async (t) => {
  using dir = new TempDir();
  const remote = "tcp://127.0.0.1:4000";
  const all = sendPermissions(remote, dir.queue);
  assert.equal(all.length, 4);
  for (const missing of all) {
    await t.step(missing, async () => {
      const left = all.filter((flag) => flag !== missing);
      const { code, out, err } = await run(left, dir.queue, remote);
      assert.equal(code, 1);
      assert.equal(out, "");
      assert(err.includes(WORDS), err);
      assert(!err.includes("SuppressedError"), err);
      assert.deepEqual(flagsIn(err), [missing]);
    });
  }
  assert.deepEqual([...Deno.readDirSync(dir.path)], [], "something was made");
});

Deno.test({
  name: "at a terminal Deno asks for what is missing, when the sender is opened" +
    await leftOutWithout("script", "--version"),
  ignore: await leftOutWithout("script", "--version") !== "",
  async fn(t) {
    using dir = new TempDir();
    await using server = new ScriptedServer().start();
    const texts = server.readAll();
    const answers = async (answer: string): Promise<string> => {
      const command = ["NO_COLOR=1", Deno.execPath(), "run", "--no-lock", PROGRAM];
      const child = new Deno.Command("script", {
        args: ["-qec", [...command, dir.queue, server.remote].join(" "), "/dev/null"],
        stdin: "piped",
        stdout: "piped",
        stderr: "inherit",
      }).spawn();
      const keys = child.stdin.getWriter();
      let printed = "";
      let ended = false;
      const reading = (async () => {
        for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) printed += text;
        ended = true;
      })();
      // Deno discards what is typed before it listens, and waits for that to end: so it is
      // typed again, now and then.
      let typedAtMs = -Infinity;
      await until("the program ends", async () => {
        if (performance.now() - typedAtMs > 300) {
          typedAtMs = performance.now();
          await keys.write(new TextEncoder().encode(answer)).catch(() => {});
        }
        return ended;
      });
      await Promise.all([reading, child.status, keys.close().catch(() => {})]);
      return printed;
    };
    await t.step("no: the first refusal ends it, with every flag", async () => {
      const printed = await answers("n\n");
      assert.equal(printed.split("Allow?").length - 1, 1, printed);
      assert(printed.includes(WORDS), printed);
      assert.equal(flagsIn(printed.slice(printed.indexOf(WORDS))).length, 4);
    });
    await t.step("yes: it runs", async () => {
      const printed = await answers("y\n");
      assert.equal(printed.split("Allow?").length - 1, 6, printed);
      assert.deepEqual(texts.join(""), "temperature 21.5\n");
    });
  },
});

Deno.test("a queue that is open, and a dialer of one's own, need nothing that they do not use", async () => {
  using dir = new TempDir();
  await using queue = await OutboundQueue.open(dir.queue);
  const dialer = {
    remote: "tcp://elsewhere.invalid:1",
    dial: () => Promise.reject(new Error("not today")),
  };
  // No permission for this host: nobody asks for it.
  await using sender = await Sender.open(queue, "tcp://elsewhere.invalid:1", { dialer });
  assert.equal(sender.queue, queue);
  assert.equal(sender.remote, dialer.remote);
});

Deno.test("a sender without a server says so", async () => {
  // @ts-expect-error: the remote is missing
  await assert.rejects(Sender.open("outbox.db"), /needs the server as well/);
});
