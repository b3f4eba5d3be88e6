import assert from "node:assert/strict";
import { OutboundQueue } from "../../src/queue/queue.ts";
import { unless } from "./helpers.ts";
import { TempDir } from "../support/temp_dir.ts";

const LIMIT = 'ulimit -n 256; exec "$0" "$@"';

/** Whether a process can be run that may open no more than some files. */
const NO_LIMITS = await (async () => {
  try {
    const { success } = await new Deno.Command("sh", { args: ["-c", LIMIT, "true"] }).output();
    return success ? undefined : "takes a shell with ulimit";
  } catch {
    return "takes a shell with ulimit";
  }
})();

Deno.test({
  ...unless(NO_LIMITS, "too many open files are told from a file that this user may not write"),
  fn: async () => {
    using dir = new TempDir();
    // Several, for a file that is opened a second time takes fewer descriptors.
    const paths = Array.from({ length: 12 }, (_, i) => dir.file(`${i}.db`));
    for (const path of paths) await (await OutboundQueue.open(path)).close();
    const script = dir.file("script.ts");
    const [queue, inspector] = ["queue.ts", "inspect/inspector.ts"].map((file) =>
      JSON.stringify(new URL(`../../src/queue/${file}`, import.meta.url).href)
    );
    // With none left, with one, and so on, until there are enough.
    Deno.writeTextFileSync(
      script,
      `const { OutboundQueue } = await import(${queue});
      const { QueueInspector } = await import(${inspector});
      const [script, ...paths] = Deno.args;
      const how = { syncIn: "loop", busyTimeoutMs: 100 };
      for (const open of [(path) => OutboundQueue.open(path, how), QueueInspector.open]) {
        const held = [];
        try {
          for (;;) held.push(Deno.openSync(script));
        } catch {
          // No more.
        }
        for (const path of paths) {
          const told = await open(path).then(
            async (opened) => {
              if ("close" in opened) await opened.close();
              else opened[Symbol.dispose]();
              return "opened";
            },
            ({ name, reason, message }) => [name, reason, message].join(" "),
          );
          console.log(told.replace(path, "FILE"));
          held.pop().close();
        }
        for (const file of held) file.close();
      }
      Deno.exit();`,
    );
    const { stdout, stderr } = await new Deno.Command("sh", {
      args: [
        ...["-c", LIMIT, Deno.execPath(), "run", "--quiet", "--no-lock", "--no-check"],
        ...["--no-prompt", "--allow-read", "--allow-write", script, script, ...paths],
      ],
    }).output();
    const text = new TextDecoder();
    const lines = text.decode(stdout).trimEnd().split("\n");
    assert.equal(lines.length, 2 * paths.length, text.decode(stderr));
    for (const half of [lines.slice(0, paths.length), lines.slice(paths.length)]) {
      assert.match(half[0] ?? "", /^QueueFileError/, half.join("\n"));
      assert.equal(half.at(-1), "opened", half.join("\n"));
      for (const line of half) {
        if (line === "opened") continue;
        assert.match(line, /^QueueFileError io .*: too many open files \(EMFILE\)\. .*ulimit -n/);
      }
    }
  },
});
