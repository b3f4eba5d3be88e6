/**
 * The images of `examples/container/`: as files that say what they should, in roots
 * laid out like their bases, and built where a container engine is.
 */

import assert from "node:assert/strict";
import { DockerfileParser, type From } from "dockerfile-ast";
import { validate } from "dockerfile-utils";
import { testUnless } from "../kernel/helpers.ts";
import { ALPINE, DEBIAN, DISTROLESS } from "../platforms/layouts.ts";
import { Place, placeObstacle, UID } from "../platforms/place.ts";
import { ReadingServer, ScriptedServer } from "../support/scripted_server.ts";
import { TempDir } from "../support/temp_dir.ts";

const root = new URL("../..", import.meta.url).pathname;
const QUEUE = "/queue/outbox.db";

/** What stands in one of them. */
class Image {
  readonly path: string;
  readonly text: string;
  readonly #file: ReturnType<typeof DockerfileParser.parse>;

  constructor(name: string) {
    this.path = `examples/container/${name}.Containerfile`;
    this.text = Deno.readTextFileSync(root + this.path);
    this.#file = DockerfileParser.parse(this.text);
  }

  get bases(): readonly string[] {
    return this.#file.getFROMs().map((from: From) => from.getImage() ?? "");
  }

  /** The instructions of a kind, as their arguments. */
  all(keyword: string): readonly string[] {
    return this.#file.getInstructions()
      .filter((instruction) => instruction.getKeyword() === keyword)
      .map((instruction) => instruction.getArgumentsContent() ?? "");
  }

  /** The words of the last ENTRYPOINT, where they are given one by one: no shell parses them. */
  get entryPoint(): readonly string[] {
    const words = this.#file.getENTRYPOINTs().at(-1)?.getJSONStrings() ?? [];
    return words.map((word) => word.getJSONValue());
  }

  /** Copies what it copies from the repository to a directory. */
  async copyTo(directory: string): Promise<void> {
    for (const copy of this.#file.getCOPYs()) {
      if (copy.getFlags().some((flag) => flag.getName() === "from")) continue;
      const names = copy.getArguments().map((argument) => argument.getValue());
      const target = `${directory}/${names.pop()}`;
      const command = new Deno.Command("cp", { args: ["-r", ...names, target], cwd: root });
      const { success, stderr } = await command.output();
      assert.ok(success, new TextDecoder().decode(stderr));
    }
  }
}

const images = [
  { name: "debian", layout: DEBIAN },
  { name: "distroless", layout: DISTROLESS },
  { name: "alpine", layout: ALPINE },
] as const;
const obstacle = await placeObstacle();

for (const { name, layout } of images) {
  Deno.test(`examples/container/${name}: a file without a fault, and no right too many`, () => {
    const image = new Image(name);
    assert.deepEqual(validate(image.text), []);
    // The version that CI runs on, and no moving name.
    const [, version] = /deno-version: (\S+)/.exec(
      Deno.readTextFileSync(`${root}.github/workflows/ci.yml`),
    ) ?? [];
    for (const base of image.bases) {
      assert.match(base, new RegExp(`^docker\\.io/denoland/deno:([a-z]+-)?${version}$`));
    }
    assert.equal(image.all("USER").at(-1), `${UID}:${UID}`);
    assert.deepEqual(image.all("VOLUME"), ["/queue"]);
    const [program, run, ...words] = image.entryPoint;
    assert.deepEqual([program, run], ["deno", "run"]);
    const flags = words.filter((word) => word.startsWith("-"));
    const [ffi = ""] = flags.filter((flag) => flag.startsWith("--allow-ffi="));
    assert.ok(ffi.slice("--allow-ffi=".length).split(",").includes(layout.granted ?? ""), ffi);
    assert.deepEqual(flags, [
      ...["--no-prompt", "--cached-only", "--allow-net"],
      ...["--allow-read=/queue", "--allow-write=/queue", ffi],
    ]);
  });

  testUnless(
    obstacle,
    `examples/container/${name}: what it copies runs, keeps what it has to, and goes on`,
    async () => {
      using dir = new TempDir();
      const image = new Image(name);
      await image.copyTo(dir.path);
      // As its RUN does, without its own cache.
      assert.match(
        image.all("RUN").join("\n"),
        /^deno install --frozen --entrypoint src\/cli\/main\.ts /,
      );
      const { success, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["install", "--frozen", "--entrypoint", "src/cli/main.ts"],
        cwd: dir.path,
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      Deno.chmodSync(dir.path, 0o755);

      using place = new Place(layout, dir.path, "/sendq");
      const port = ScriptedServer.freePort();
      const address = { hostname: "127.0.0.1", port: ScriptedServer.freePort() };
      const words = [
        ...image.entryPoint.slice(1),
        ...["relay", "--listen", `tcp://127.0.0.1:${address.port}`],
        ...["--to", `tcp://127.0.0.1:${port}`, "--queue", QUEUE],
        ...["--hold", "100ms", "--deliver-timeout"],
      ];
      {
        await using program = place.start([...words, "10ms"]);
        await program.says(/listening on/);
        using client = await Deno.connect(address);
        await client.write(new TextEncoder().encode("one\ntwo\n"));
        await client.closeWrite();
        // Until all is stored.
        assert.equal(await client.read(new Uint8Array(1)), null);
        await program.signal("SIGTERM");
        assert.equal(await program.ended(), 75, program.stderr);
        assert.match(program.stderr, /2 packets kept/);
      }
      await using server = new ReadingServer({ port });
      await using program = place.start([...words, "20s"]);
      await program.says(/listening on/);
      await program.signal("SIGTERM");
      assert.equal(await program.ended(), 0, program.stderr);
      assert.equal(server.text, "one\ntwo\n");
    },
  );
}

const engine = await engineHere();
for (const { name } of images) {
  Deno.test({
    name: `examples/container/${name}: the image builds, and runs without any right` +
      (engine.program === undefined ? ` (left out: no container engine: ${engine.why})` : ""),
    ignore: engine.program === undefined,
    async fn() {
      const { path } = new Image(name);
      await engineRuns("build", "-t", `sendq-test-${name}`, "-f", path, ".");
      const narrow = ["--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges"];
      const out = await engineRuns("run", "--rm", ...narrow, `sendq-test-${name}`);
      assert.match(out, /^Usage: sendq /);
    },
  });
}

async function engineRuns(...args: string[]): Promise<string> {
  assert.ok(engine.program !== undefined);
  const { success, stdout, stderr } = await new Deno.Command(engine.program, { args, cwd: root })
    .output();
  assert.ok(success, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

/** The container engine of this machine, or why there is none. */
async function engineHere(): Promise<{ readonly program?: string; readonly why: string }> {
  const reasons: string[] = [];
  for (const program of ["podman", "docker"]) {
    try {
      const { success, stderr } = await new Deno.Command(program, { args: ["info"] }).output();
      if (success) return { program, why: "" };
      reasons.push(`${program}: ${new TextDecoder().decode(stderr).trim().split("\n").at(-1)}`);
    } catch {
      reasons.push(`there is no ${program}`);
    }
  }
  return { why: reasons.join("; ") };
}
