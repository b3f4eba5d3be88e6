import assert from "node:assert/strict";
import { leftOutWithout, Sendq } from "./helpers.ts";

async function complete(...words: string[]): Promise<string[]> {
  await using command = new Sendq([], ["complete", "--", ...words]);
  assert.equal(await command.ended(), 0, command.stderr);
  // The last line is a directive to the script.
  return command.stdout.trimEnd().split("\n").slice(0, -1).map((line) => line.split("\t")[0] ?? "");
}

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
