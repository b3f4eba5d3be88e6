/**
 * Somebody who has Deno and nothing else: an empty directory, an empty cache, no
 * configuration.
 *
 * @module
 */

import { TempDir } from "../support/temp_dir.ts";

/** What a command made of it. */
export interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** The empty directory, until it is disposed of. */
export class Newcomer implements Disposable {
  readonly #dir = new TempDir();
  readonly #registry: string;

  /** @param registry The `JSR_URL`. */
  constructor(registry: string) {
    this.#registry = registry;
    for (const name of ["home", "work"]) Deno.mkdirSync(this.#dir.file(name));
  }

  /** Where commands run. */
  get path(): string {
    return this.#dir.file("work");
  }

  /** The path of a file there. */
  file(name: string): string {
    return `${this.path}/${name}`;
  }

  /** Writes a file there. */
  write(name: string, text: string): void {
    Deno.writeTextFileSync(this.file(name), text);
  }

  /** Runs `deno` to its end. */
  async deno(...args: string[]): Promise<Ran> {
    return await this.run(Deno.execPath(), args);
  }

  /** Runs a program to its end, with `input` on its standard input. */
  async run(program: string, args: readonly string[], input = ""): Promise<Ran> {
    const child = new Deno.Command(program, {
      args: [...args],
      cwd: this.path,
      env: {
        JSR_URL: this.#registry,
        HOME: this.#dir.file("home"),
        DENO_DIR: this.#dir.file("cache"),
        DENO_INSTALL_ROOT: this.#dir.file("home/.deno"),
        // Where a machine has certificates of its own, npm's registry may need them.
        DENO_TLS_CA_STORE: "mozilla,system",
        DENO_NO_UPDATE_CHECK: "1",
        NO_COLOR: "1",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    // It may end without having read it.
    const written = writer.write(new TextEncoder().encode(input)).then(() => writer.close());
    const [{ code, stdout, stderr }] = await Promise.all([child.output(), written.catch(() => {})]);
    const [out = "", err = ""] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    return { code, out, err };
  }

  /** Where `deno install -g` puts a command. */
  installed(name: string): string {
    return this.#dir.file(`home/.deno/bin/${name}`);
  }

  /** What came from npm, unpacked. */
  npmBytes(): number {
    return sizeOf(this.#dir.file("cache/npm"));
  }

  [Symbol.dispose](): void {
    this.#dir[Symbol.dispose]();
  }
}

function sizeOf(path: string): number {
  const info = statOf(path);
  if (info === undefined || !info.isDirectory) return info?.size ?? 0;
  let bytes = 0;
  for (const { name } of Deno.readDirSync(path)) bytes += sizeOf(`${path}/${name}`);
  return bytes;
}

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
