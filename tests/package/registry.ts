/**
 * A registry in the layout of JSR, on loopback, which `JSR_URL` leads to. What it
 * has is what `deno publish` has handed it: the very files, rewritten as
 * `deno publish` rewrites them.
 *
 * Beside it stands `@db/sqlite`, which is the stand-in of this repository.
 *
 * Left out of JSR's answers is the graph of the modules, with which a client asks
 * for all of them at once; without it a client finds the same ones by reading.
 *
 * @module
 */

import { parseTar } from "nanotar";
import assert from "node:assert/strict";
import { createHash } from "node:crypto";

const ROOT = new URL("../..", import.meta.url).pathname;

/** What is published. */
export interface Package {
  readonly version: string;
  readonly exports: Readonly<Record<string, string>>;
  /** By path, without a slash before it. */
  readonly files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** What somebody was sent. */
export interface Sent {
  readonly requests: number;
  readonly bytes: number;
  /** What it does not have was asked for. */
  readonly missing: readonly string[];
}

/** The registry, until it is disposed of. */
export class LocalRegistry implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #packages = new Map<string, Package>([["@db/sqlite", standIn()]]);
  #requests = 0;
  #bytes = 0;
  #missing: string[] = [];

  private constructor() {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      (request) => this.#answer(request),
    );
  }

  /** Starts one, and publishes this repository to it. */
  static async start(): Promise<LocalRegistry> {
    const registry = new LocalRegistry();
    try {
      const { code, stderr } = await new Deno.Command(Deno.execPath(), {
        // The types are checked by `deno task check`.
        args: ["publish", "--allow-dirty", "--no-check", "--no-provenance", "--token", "any"],
        cwd: ROOT,
        env: { JSR_URL: registry.url, NO_COLOR: "1" },
        stdin: "null",
      }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      assert.ok(registry.published.files.size > 0);
      registry.take();
      return registry;
    } catch (error) {
      await registry[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** For `JSR_URL`. */
  get url(): string {
    return `http://${this.host}/`;
  }

  /** Host and port, as a grant names them. */
  get host(): string {
    return `127.0.0.1:${this.#server.addr.port}`;
  }

  /** What `deno publish` has handed in. */
  get published(): Package {
    return this.#packages.get("@sendq/sendq") ?? assert.fail("nothing is published");
  }

  /** What was sent since the last time that it was asked. */
  take(): Sent {
    const sent = { requests: this.#requests, bytes: this.#bytes, missing: this.#missing };
    this.#requests = this.#bytes = 0;
    this.#missing = [];
    return sent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (pathname.startsWith("/api/")) return await this.#publish(request, pathname);
    this.#requests++;
    const body = this.#body(decodeURIComponent(pathname));
    if (body === undefined) {
      this.#missing.push(pathname);
      return new Response("not found", { status: 404 });
    }
    this.#bytes += body.length;
    const type = pathname.endsWith(".json") ? "application/json" : "text/typescript";
    return new Response(body, { headers: { "content-type": type } });
  }

  /** The part of https://api.jsr.io that `deno publish` speaks to. */
  async #publish(request: Request, pathname: string): Promise<Response> {
    if (request.method === "POST" && request.body !== null) {
      const tar = request.body.pipeThrough(new DecompressionStream("gzip"));
      const files = new Map(
        parseTar(await new Response(tar).bytes())
          .flatMap(({ name, data }) => data === undefined ? [] : [[name, new Uint8Array(data)]]),
      );
      const config = files.get("deno.json") ?? assert.fail("deno.json is not among the files");
      const { version, exports } = JSON.parse(new TextDecoder().decode(config));
      this.#packages.set("@sendq/sendq", { version, exports, files });
      return Response.json({ id: "1", status: "success", error: null });
    }
    // The package is there; the version is not yet.
    return pathname.endsWith("/packages/sendq")
      ? Response.json({ scope: "sendq", name: "sendq" })
      : Response.json({ code: "packageVersionNotFound", message: "not found" }, { status: 404 });
  }

  #body(pathname: string): Uint8Array<ArrayBuffer> | undefined {
    for (const [name, { version, exports, files }] of this.#packages) {
      const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
      if (pathname === `/${name}/meta.json`) {
        return json({ latest: version, versions: { [version]: {} } });
      }
      if (pathname === `/${name}/${version}_meta.json`) {
        const manifest = Object.fromEntries(
          [...files].map(([path, bytes]) => {
            const hash = createHash("sha256").update(bytes).digest("hex");
            return [`/${path}`, { size: bytes.length, checksum: `sha256-${hash}` }];
          }),
        );
        return json({ manifest, exports });
      }
      const prefix = `/${name}/${version}/`;
      if (pathname.startsWith(prefix)) return files.get(pathname.slice(prefix.length));
    }
    return undefined;
  }
}

/** What a user without the real library gets for `@db/sqlite` here. */
function standIn(): Package {
  const folder = new URL("../../db_sqlite_stand_in/", import.meta.url);
  const { version, exports } = JSON.parse(Deno.readTextFileSync(new URL("deno.json", folder)));
  const code = Deno.readFileSync(new URL("mod.ts", folder));
  return { version, exports: { ".": exports }, files: new Map([["mod.ts", code]]) };
}
