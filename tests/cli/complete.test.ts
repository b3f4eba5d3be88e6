import assert from "node:assert/strict";
import { main } from "../../src/cli/main.ts";
import { leftOutWithout, runHere, Sendq } from "./helpers.ts";

async function complete(...words: string[]): Promise<string[]> {
  // The last line is a directive to the script.
  return (await answerFor(...words)).slice(0, -1).map((line) => line.split("\t")[0] ?? "");
}

async function answerFor(...words: string[]): Promise<string[]> {
  await using command = new Sendq([], ["complete", "--", ...words]);
  assert.equal(await command.ended(), 0, command.stderr);
  return command.stdout.trimEnd().split("\n");
}

Deno.test("complete: files are left to the shell where a path is expected, and nowhere else", async () => {
  const files = [
    ["list", "-q", ""],
    ["list", "--queue", "out"],
    ["send", "--tls-ca", ""],
    ["send", "--config", ""],
    ["enqueue", "--file", ""],
    ["export", "-q", "outbox.db", "-o", ""],
    ["run", ""],
    ["run", "--check", ""],
    ["import", ""],
    ["spool", ""],
    ["backup", "-q", "outbox.db", ""],
    ["repair", "outbox.db", ""],
  ];
  for (const words of files) assert.deepEqual(await answerFor(...words), [":0"], words.join(" "));
  for (
    const words of [["send", ""], ["send", "--hold", ""], ["list", "--limit", ""], ["enqueue", ""]]
  ) {
    assert.deepEqual(await answerFor(...words), [":4"], words.join(" "));
  }
});

const noBash = await leftOutWithout("bash", "--version");
Deno.test({
  name: `complete: bash asks with the words as typed, without any package${noBash}`,
  ignore: noBash !== "",
  async fn() {
    await using command = new Sendq([], ["complete", "bash"]);
    assert.equal(await command.ended(), 0, command.stderr);
    const line = "sendq probe tcp://legacy:4000 --conf";
    const script = `${command.stdout}
      sendq() { printf '%s|' "$@" >&2; printf -- '--config\\ta file\\n:0\\n'; }
      eval() { builtin eval "\${1}" 2>&3; }
      COMP_LINE='${line}' COMP_POINT=${line.length}
      __sendq_complete 3>&1
      printf '\\n%s\\n' "\${COMPREPLY[@]}"
      complete -p sendq`;
    const { stdout, stderr } = await new Deno.Command("bash", {
      args: ["--norc", "--noprofile", "-c", script],
    }).output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert.deepEqual([out?.split("\n"), err], [[
      "complete|--|probe|tcp://legacy:4000|--conf|",
      "--config",
      "complete -o default -F __sendq_complete sendq",
      "",
    ], ""]);
  },
});

Deno.test("complete: commands, options and the words that an option takes", async () => {
  const commands = await complete("");
  for (
    const name of [
      ...["send", "relay", "run", "enqueue", "status", "probe", "list", "show", "export", "import"],
      ...["remove", "requeue", "backup", "check", "repair", "help"],
    ]
  ) {
    assert(commands.includes(name), name);
  }
  assert.deepEqual(await complete("rel"), ["relay"]);
  assert.deepEqual(await complete("export", "--format", "r"), ["raw"]);
  assert.deepEqual(await complete("run", "route.json", "--che"), ["--check"]);
  assert.deepEqual(await complete("list", "--conf"), ["--config"]);
  assert.deepEqual(await complete("status", "-q", "outbox.db", "--w"), ["--watch", "--wait-empty"]);
  assert.deepEqual(await complete("relay", "--replies", "l"), ["last-client"]);
  assert.deepEqual(await complete("send", "--input", "length"), ["length16", "length32"]);
});

for (const shell of ["bash", "zsh", "fish"]) {
  const missing = await leftOutWithout(shell, "--version");
  Deno.test({
    name: `complete: ${shell} accepts its script${missing}`,
    ignore: missing !== "",
    async fn() {
      await using command = new Sendq([], ["complete", shell]);
      assert.equal(await command.ended(), 0, command.stderr);
      const file = Deno.makeTempFileSync();
      Deno.writeTextFileSync(file, command.stdout);
      const { code, stderr } = await new Deno.Command(shell, { args: ["-n", file] }).output();
      Deno.removeSync(file);
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.match(command.stdout, /sendq complete/);
    },
  });
}

Deno.test("complete: prints where the command prints, and says so where that cannot be written", async () => {
  const { log } = console;
  const { code, out } = await runHere(["complete", "bash"]);
  assert.equal(code, 0);
  assert.match(out, /^# bash completion for sendq\n[^]*\n__sendq_complete\(\) \{\n/);
  const { log: after } = console;
  assert.equal(after, log);
  for (const words of [["bash"], ["--", "send", ""]]) {
    const written: Uint8Array[] = [];
    const full = {
      write: () => Promise.reject(new Error("No space left on device (os error 28)")),
      writeSync: () => {
        throw new Error("No space left on device (os error 28)");
      },
      isTerminal: () => false,
    };
    const stderr = {
      write: (part: Uint8Array) => Promise.resolve(stderr.writeSync(part)),
      writeSync: (part: Uint8Array) => written.push(part.slice()) && part.length,
      isTerminal: () => false,
    };
    const stdin = { read: () => Promise.resolve(null), isTerminal: () => false };
    assert.equal(await main(["complete", ...words], { stdin, stdout: full, stderr }), 1);
    assert.equal(
      new TextDecoder().decode(written[0]),
      "sendq: stdout cannot be written: No space left on device (os error 28)\n",
    );
  }
});
