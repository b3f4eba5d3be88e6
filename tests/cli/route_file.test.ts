import { Ajv } from "ajv";
import fc from "../support/properties.ts";
import assert from "node:assert/strict";
import { routeSchema } from "../../docs/generate.ts";
import * as tables from "../../src/base/option_table.ts";
import {
  ANSWER_OPTIONS,
  CLOSE_OPTIONS,
  DELIVERY_OPTIONS,
  HEARTBEAT_OPTIONS,
  KEEP_ALIVE_OPTIONS,
  PACE_OPTIONS,
  QUEUE_OPTIONS,
  RELAY_OPTIONS,
  SESSION_OPTIONS,
  SOCKET_OPTIONS,
  TLS_OPTIONS,
  VIA_OPTIONS,
} from "../../src/base/option_table.ts";
import { STATUS_OPTIONS } from "../../src/base/subpath_option_table.ts";
import type { OptionSpec, OptionTable } from "../../src/base/options.ts";
import { placed, readRouteFile, type RouteFile } from "../../src/cli/route/route_file.ts";
import { TempDir } from "../support/temp_dir.ts";
import { writeDuration, writeSize } from "../../src/cli/arguments/values.ts";

const ROUTE = { queue: "q.db", remote: "tcp://127.0.0.1:4000" };

function read(json: unknown): RouteFile {
  return readRouteFile("r.json", typeof json === "string" ? json : JSON.stringify(json));
}

function words(json: unknown): string[] {
  const file = read(json);
  return file.problems.map((problem) => placed(file, problem));
}

function valueIn(json: unknown, to: string): unknown {
  const file = read(json);
  assert.deepEqual(file.problems, []);
  return file.routes[0]?.values.get(to)?.value;
}

Deno.test("a list of remotes is one remote with others behind it", () => {
  const remote = ["tcp://127.0.0.1:4000", "tcp://[::1]:4001"];
  assert.deepEqual(valueIn({ ...ROUTE, remote }, "remote"), {
    hostname: "127.0.0.1",
    port: 4000,
    standbys: [{ hostname: "::1", port: 4001 }],
  });
  assert.match(words({ ...ROUTE, remote: [] }).join(), /remote must not be empty$/);
  assert.match(
    words({ ...ROUTE, remote: [remote[0], "tls://a:1"] }).join(),
    /all tcp:.* all tls:.* or all unix:/,
  );
});

Deno.test("comments, trailing commas and a byte order mark are no mistakes", () => {
  const text = `\ufeff// a route
    { "queue": "q.db", /* where */ "remote": "tcp://127.0.0.1:4000", "holdMs": "10s", }`;
  assert.deepEqual(words(text), []);
  assert.equal(valueIn(text, "holdMs"), 10_000);
});

Deno.test("each mistake has its line, its column and what is expected, all at once", () => {
  assert.deepEqual(
    words(`{
  "queue": "q.db",
  "remot": "tcp://127.0.0.1:4000",
  "maxBytes": 5,
  "holdMs": "10",
  "connect": "never",
  "queue": "again",
  "session": { "open": [ { "refuse": "-ERR" } ] },
  "socket": { "keepAlive": true }
}`),
    [
      'r.json:1:1: "remote" is missing (the server: tcp://HOST:PORT, tls://HOST:PORT, unix:PATH, ' +
      "or a list of them in order of preference; listen://HOST:PORT for one that connects to us)",
      'r.json:3:3: there is no "remot" here; is remote meant?',
      'r.json:4:3: there is no "maxBytes" here; it belongs into "queueOptions"',
      "r.json:5:13: holdMs: expected a duration with its unit: 500ms, 3s, 2m, 1h, 1d",
      "r.json:6:14: connect must be one of on-demand, always",
      'r.json:7:3: "queue" is there twice',
      'r.json:8:26: session.open[0]: "send" or "expect" is missing',
      'r.json:8:26: session.open[0]: "refuse" needs "expect"',
      "r.json:9:28: socket.keepAlive must be an object: { … }, or false",
    ],
  );
});

Deno.test("a mistake in a secret does not repeat it", () => {
  const secret = String.raw`hunter2\q`;
  const route = { ...ROUTE, session: { open: [{ send: secret }] } };
  const [problem = "", ...others] = words(route);
  assert.deepEqual(others, []);
  assert.match(problem, /session\.open\[0\]\.send/);
  assert.doesNotMatch(problem, /hunter2/);
});

Deno.test("what is no JSON is said with its place", () => {
  const cases: [text: string, words: RegExp][] = [
    ["", /^r\.json:1:1: /],
    ["{", /^r\.json:1:2: .*"}"/],
    ['{\n  "queue" "x"\n}', /^r\.json:2:11: .*":"/],
    ["{ 'queue': 1 }", /^r\.json:1:3: .*double quotes/],
    ['{ "queue": "x" "remote": "y" }', /^r\.json:1:16: .*","/],
    ["[]", /^r\.json:1:1: a route file must be an object/],
    ['{ "routes": [] }', /^r\.json:1:13: routes must be an object: \{ "NAME"/],
    ['{ "routes": {} }', /^r\.json:1:13: routes must not be empty: \{ "NAME"/],
    ['{ "queue": "q", "remote": [] }', /^r\.json:1:27: remote must not be empty$/],
    [
      '{ "queue": "q", "remote": "tcp://h:1", "relay": { "listen": [] } }',
      /^r\.json:1:61: relay\.listen must not be empty$/,
    ],
    [
      '{ "queue": "q", "remote": "tcp://h:1", "relay": { "listen": "tcp://h:2" } }',
      /^r\.json:1:61: relay\.listen must be a list: \[ … \]$/,
    ],
    ['{ "routes": { "a b": { "queue": "q", "remote": "tcp://h:1" } } }', /^r\.json:1:15: .*name/],
  ];
  for (const [text, expected] of cases) assert.match(words(text).join("\n"), expected, text);
});

Deno.test("two routes cannot listen at one address, nor where the status page is", () => {
  const file = (a: object, b: object) =>
    JSON.stringify({
      routes: {
        a: { queue: "a.db", remote: "tcp://h:1", ...a },
        b: { queue: "b.db", remote: "tcp://h:1", ...b },
      },
      http: { address: "127.0.0.1:9465" },
    });
  const relay = (...listen: string[]) => ({ relay: { listen } });
  const b = /^r\.json:1:\d+: routes\.b\.relay\.listen has /;
  const cases: readonly (readonly [object, object, RegExp])[] = [
    [
      relay("tcp://127.0.0.1:4001", "unix:/run/a"),
      relay("tcp://127.0.0.1:4001"),
      /^r\.json:1:\d+: routes\.b\.relay\.listen has tcp:\/\/127\.0\.0\.1:4001, where routes\.a\.relay\.listen listens already$/,
    ],
    [relay("unix:/run/a"), relay("tcp://h:2", "unix:/run/../run/a"), b],
    [{ remote: "listen://127.0.0.1:4001?from=127.0.0.1" }, relay("tcp://127.0.0.1:4001"), b],
    [{}, relay("tcp://127.0.0.1:9465"), /tcp:\/\/127\.0\.0\.1:9465, where http\.address listens/],
    [{}, relay("tcp://[::1]:1", "tcp://[::1]:1"), b],
    [relay("unix:/run/a:0"), relay("unix:/run/a:0"), b],
  ];
  for (const [one, other, expected] of cases) {
    assert.match(words(file(one, other)).join("\n"), expected);
  }
  const ports = ["tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp://127.0.0.1:4001"];
  assert.deepEqual(words(file(relay(...ports), relay("tcp://127.0.0.1:4002"))), []);
});

Deno.test("two routes cannot have one queue, however it is spelled", async (t) => {
  using dir = new TempDir();
  const [file, link, missing] = [dir.file("a.db"), dir.file("link.db"), dir.file("b.db")];
  Deno.writeTextFileSync(file, "");
  Deno.symlinkSync(file, link);
  const SAME = /^r\.json:1:\d+: routes\.b\.queue is another route's: each has one of its own$/;
  const PLACE = /^r\.json:1:\d+: routes\.b\.queue is in another route's file: as a spool it has /;
  for (
    const [a, b, expected] of [
      ["a.db", "a.db", SAME],
      ["a.db", "./a.db", SAME],
      ["a.db", "x/../a.db", SAME],
      ["a.db", `${Deno.cwd()}/a.db`, SAME],
      [file, link, SAME],
      [missing, `${dir.path}/./b.db`, SAME],
      ["spool:s.db#a", "spool:./s.db#a", SAME],
      [`spool:${file}#a`, `spool:${link}#a`, SAME],
      ["s.db", "spool:s.db#a", PLACE],
      [`spool:${link}#a`, file, PLACE],
      ["spool:s.db#a", "spool:./s.db#b", /^$/],
      [file, missing, /^$/],
    ] as const
  ) {
    await t.step(`${a} and ${b}`.replaceAll(dir.path, ""), () => {
      const routes = { a: { ...ROUTE, queue: a }, b: { ...ROUTE, queue: b } };
      assert.match(words({ routes }).join("\n"), expected);
    });
  }
});

Deno.test("what is for the whole process is every route's", () => {
  const file = read({
    routes: { a: ROUTE, b: { ...ROUTE, queue: "b.db" } },
    http: { address: "127.0.0.1:9465", undeliverableLimitMs: "5m" },
    log: { level: "warn" },
  });
  assert.deepEqual(file.problems, []);
  assert.deepEqual(file.routes.map(({ name }) => name), ["a", "b"]);
  for (const { values } of file.routes) {
    assert.equal(values.get("undeliverableLimitMs")?.value, 300_000);
    assert.equal(values.get("logLevel")?.value, "warn");
  }
});

Deno.test("bytes are text with escapes, a file, or a pattern where an answer is meant", () => {
  const open = [{ send: "AUTH\\x00\r\n", expect: { regexp: "^\\+OK" } }, {
    send: { file: "p.txt" },
  }];
  const route = { ...ROUTE, session: { open, close: "BYE", heartbeat: { send: "PING" } } };
  assert.deepEqual(valueIn(route, "sessionOpen"), [
    { send: new Uint8Array([65, 85, 84, 72, 0, 13, 10]), expect: /^\+OK/ },
    { send: { file: "p.txt" } },
  ]);
  assert.deepEqual(valueIn(route, "goodbye"), new TextEncoder().encode("BYE"));
  const sent = { ...ROUTE, session: { open: [{ send: { regexp: "x" } }] } };
  assert.match(words(sent).join(), /must be text in quotes, or \{ "file": "PATH" \}$/);
});

/** Every way in which an option's value may be written, and what it means. */
function formsOf(spec: OptionSpec): (readonly [written: unknown, value: unknown])[] {
  if (spec.type === "choice") return spec.choices.map((choice) => [choice, choice]);
  if (spec.type === "switch") return [[true, true], [false, false]];
  if (spec.type === "texts") return [[["one", "two"], ["one", "two"]]];
  if (!("min" in spec)) return [["eth0", "eth0"]];
  const value = spec.default === undefined || spec.default === Infinity
    ? spec.min + (spec.aboveMin ? 1 : 0)
    : spec.default;
  const endless = spec.endless === true && spec.type === "duration"
    ? [["never", Infinity] as const]
    : [];
  if (spec.type === "duration") return [[value, value], [writeDuration(value), value], ...endless];
  return spec.type === "size" ? [[value, value], [writeSize(value), value]] : [[value, value]];
}

const PLACES: readonly [OptionTable, string, (options: object) => object][] = [
  [{ ...DELIVERY_OPTIONS, ...PACE_OPTIONS }, "", (options) => ({ ...ROUTE, ...options })],
  [QUEUE_OPTIONS, "", (queueOptions) => ({ ...ROUTE, queueOptions })],
  [SOCKET_OPTIONS, "", (socket) => ({ ...ROUTE, socket })],
  [SESSION_OPTIONS, "session.", (session) => ({ ...ROUTE, session })],
  [CLOSE_OPTIONS, "", (options) => ({ ...ROUTE, ...options })],
  [KEEP_ALIVE_OPTIONS, "keepAlive.", (keepAlive) => ({ ...ROUTE, socket: { keepAlive } })],
  [HEARTBEAT_OPTIONS, "session.heartbeat.", (heartbeat) => ({
    ...ROUTE,
    session: { heartbeat: { send: "PING", ...heartbeat } },
  })],
  [RELAY_OPTIONS, "", (relay) => ({
    ...ROUTE,
    relay: { listen: ["tcp://127.0.0.1:4001"], ...relay },
  })],
  [ANSWER_OPTIONS, "confirm.", (confirm) => ({
    ...ROUTE,
    confirm: { level: "answer", accepted: "OK", ...confirm },
  })],
  [TLS_OPTIONS, "tls.", (tls) => ({ ...ROUTE, remote: "tls://192.0.2.7:6514", tls })],
  [VIA_OPTIONS, "via.", (via) => ({ ...ROUTE, via: { url: "socks5://proxy:1080", ...via } })],
  [STATUS_OPTIONS, "", (http) => ({ ...ROUTE, http: { address: "127.0.0.1:9465", ...http } })],
];

Deno.test("no option of the command is missing in route files", () => {
  const placed = new Set(PLACES.flatMap(([table]) => Object.keys(table)));
  // Of the subpaths' the others are no route's.
  for (const [name, table] of Object.entries({ ...tables, STATUS_OPTIONS })) {
    assert.deepEqual(Object.keys(table).filter((option) => !placed.has(option)), [], name);
  }
});

Deno.test("every option of the tables can be written, with its unit and as a number", () => {
  const validate = new Ajv({ strict: true, strictRequired: false, strictTypes: false })
    .compile(routeSchema());
  for (const [table, prefix, placedAt] of PLACES) {
    for (const [name, spec] of Object.entries(table)) {
      for (const [written, value] of formsOf(spec)) {
        const route = placedAt({ [name]: written });
        assert.deepEqual(valueIn(route, prefix + name), value, `${name}: ${written}`);
        assert.ok(validate(route), `${name}: ${written}: ${JSON.stringify(validate.errors)}`);
      }
    }
  }
});

Deno.test("the schema refuses no file that is read without a mistake", () => {
  const validate = new Ajv({ strict: true, strictRequired: false, strictTypes: false })
    .compile(routeSchema());
  const value = fc.oneof(
    ...[fc.constantFrom("10s", "never", "64KiB", "lines", "x", "", "660"), fc.integer()],
    ...[fc.boolean(), fc.constant(null), fc.constant({ file: "x" }), fc.constant([])],
  );
  const names = ["holdMs", "maxInFlightBytes", "input", "connect", "session", "bogus", "libc"];
  let sound = 0;
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), value, { maxKeys: 2 }), (given) => {
      const route = { ...ROUTE, ...given };
      if (read(route).problems.length > 0) return;
      sound++;
      assert.ok(validate(route), JSON.stringify({ route, errors: validate.errors }));
    }),
    { numRuns: 2000 },
  );
  assert.ok(sound > 100, `only ${sound} were sound`);
});
