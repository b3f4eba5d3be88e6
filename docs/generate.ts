/**
 * Writes docs/OPTIONS.md, docs/options.schema.json and docs/route.schema.json from the
 * table of options, and
 * the framings of docs/PROTOCOLS.md from theirs: `deno task docs:options`.
 *
 * @module
 */

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
} from "../src/base/option_table.ts";
import {
  FORWARDER_OPTIONS,
  STATUS_OPTIONS,
  WATCH_OPTIONS,
} from "../src/base/subpath_option_table.ts";
import type { OptionSpec, OptionTable } from "../src/base/options.ts";
import { DESCRIBED_FRAMINGS, NAMED_FRAMINGS } from "../src/framing/framing.ts";
import { type Field, PROCESS, ROUTE, ROUTE_NAME } from "../src/cli/route/fields.ts";
import { LOG_OPTIONS } from "../src/cli/arguments/options.ts";
import { defaultInWords, ruleInWords } from "../src/cli/arguments/option_adder.ts";

interface Section {
  readonly title: string;
  readonly words: string;
  readonly table: OptionTable;
}

const SECTIONS: readonly Section[] = [
  {
    title: "Queue",
    words:
      "`QueueOptions` of `OutboundQueue.open`, and `queueOptions` of `Sender.open`. The flags " +
      "are those of\n`send`, `relay`, `enqueue` and `import`, where `--overflow` is `wait` unless given.",
    table: QUEUE_OPTIONS,
  },
  {
    title: "Delivery",
    words: "`SenderOptions` of `Sender.open`; the flags are those of `send` and `relay`. With\n" +
      "`responseTimeoutMs`, `holdMs` has to be more than that, and is a second more unless given.",
    table: DELIVERY_OPTIONS,
  },
  { title: "Pace", words: "`SenderOptions`, too.", table: PACE_OPTIONS },
  {
    title: "Session",
    words:
      "`session` of `SenderOptions`, beside `open`, `heartbeat` and `close`, for which `send` and `relay`\n" +
      "have `--session-send`, `--session-expect`, `--session-refuse`, `--session-framing`, `--heartbeat`,\n" +
      "`--heartbeat-expect` and `--goodbye`; see [PROTOCOLS](PROTOCOLS.md#sessions).",
    table: SESSION_OPTIONS,
  },
  {
    title: "Heartbeat",
    words: "`heartbeat` of `session`, beside `send` and `expect`.",
    table: HEARTBEAT_OPTIONS,
  },
  {
    title: "Confirmation by answers",
    words:
      "`confirm` of `SenderOptions`, beside `framing`, `accepted`, `refused`, `judge` and `keyOf`, for\n" +
      "which `send` and `relay` have `--confirm answer`, `--answer-framing`, `--accepted`, `--refused` and\n" +
      "`--packet-key`; see [PROTOCOLS](PROTOCOLS.md#answers).",
    table: ANSWER_OPTIONS,
  },
  {
    title: "The end",
    words: "`CloseOptions` of `Sender.close`; the flag is that of `send`, `relay` and `forward`.",
    table: CLOSE_OPTIONS,
  },
  {
    title: "Socket",
    words: "`socket` of `SenderOptions`. Most senders set none of them. Who does:\n\n" +
      "- `noDelay`: whoever pays for each packet on a slow radio link, and has time\n" +
      "- `userTimeoutMs`, `rtoMaxMs`: whoever wants the kernel's own limits back, to retransmit less on a\n" +
      "  metered link\n" +
      "- `sendBufferBytes`: hosts with little memory and many connections\n" +
      "- `congestion`: paths that lose packets without being full, such as radio and satellite\n" +
      "- `bindToDevice`, `mark`: hosts with two ways out, such as a modem beside Ethernet, or a VPN\n" +
      "- `tos`: managed networks that treat packets by their DSCP",
    table: SOCKET_OPTIONS,
  },
  {
    title: "Keepalive",
    words: "`keepAlive` of `SocketOptions`; `keepAlive: false` and `--no-keepalive` switch it off.",
    table: KEEP_ALIVE_OPTIONS,
  },
  {
    title: "TLS",
    words:
      "`tls` of `SenderOptions`, for a `tls://` remote; see [TLS](TLS.md). The flags take files, which are\n" +
      "read anew for each connection; the library takes their text, or a function that gives it.\n" +
      "`fingerprints` cannot be combined with `ca`.",
    table: TLS_OPTIONS,
  },
  {
    title: "Proxy",
    words:
      "`via` of `SenderOptions`, or its URL alone; see [OPERATIONS](OPERATIONS.md#through-a-proxy). The\n" +
      "flag of `credentials` takes a file; the library takes its text.",
    table: VIA_OPTIONS,
  },
  {
    title: "Relay",
    words: "`RelayOptions` of `Relay` in `@sendq/sendq/relay`; the flags are those of `relay`.",
    table: RELAY_OPTIONS,
  },
  {
    title: "Forwarder",
    words:
      "`ForwarderOptions` of `Forwarder` in `@sendq/sendq/postgres`, see [CLUSTER](CLUSTER.md#edges); the\n" +
      "flags are those of `forward`.",
    table: FORWARDER_OPTIONS,
  },
  {
    title: "Status page",
    words:
      "`StatusServerOptions` of `serveStatus`; the flag is that of `send`, `relay` and `forward`.",
    table: STATUS_OPTIONS,
  },
  {
    title: "Watching a connection",
    words:
      "`WatchOptions` of `watch` in `@sendq/sendq/tcp`, see [TCP](TCP.md). The command has none.",
    table: WATCH_OPTIONS,
  },
  { title: "Log", words: "Of `send`, `relay` and `forward` alone.", table: LOG_OPTIONS },
];

const INTRODUCTION = `# Options

Made from the tables in \`src/base\` by \`deno task docs:options\`. What each one means and costs, at
length, is in the documentation of the interface that is named.

Values are written as on the command line. The library takes the same as numbers: a name that ends
in \`Ms\` takes milliseconds, one that ends in \`Bytes\` takes bytes, and \`Infinity\` is \`never\` or no
limit. [options.schema.json](options.schema.json) describes what \`Sender.open\` takes as JSON, for
editors; JSON has no \`Infinity\`, and leaves the option out. A route file of \`sendq run\` takes both,
\`"10s"\` and \`10000\`, under the names of the library: [route.schema.json](route.schema.json).
`;

/** The text of docs/OPTIONS.md. */
export function optionsPage(): string {
  const sections = SECTIONS.map(({ title, words, table }) => {
    const rows = Object.entries(table).map(([name, spec]) => [
      table === LOG_OPTIONS ? "" : `\`${name}\``,
      spec.flags === undefined ? "" : `\`${spec.flags}\``,
      ruleInWords(spec).replace("must be ", ""),
      spec.type === "switch" ? String(spec.default) : defaultInWords(spec) ?? "",
      spec.help,
    ]);
    return `## ${title}\n\n${words}\n\n${
      tableOf([
        ["option", "flag", "takes", "default", "for"],
        ...rows,
      ])
    }`;
  });
  return [INTRODUCTION, ...sections].join("\n");
}

/** docs/PROTOCOLS.md with the present framings. */
export function protocolsPage(page: string): string {
  const rows = [
    ...NAMED_FRAMINGS.map(({ form, is = [], wire, users }) => [
      `\`${form}\``,
      wire ?? is.map((text) => `\`${text}\``).join(" or "),
      users,
    ]),
    ...DESCRIBED_FRAMINGS.map(({ form, wire = "", users }) => [`\`${form}\``, wire, users]),
  ];
  const table = tableOf([["framing", "a packet on the wire", "for"], ...rows]);
  return page.replace(
    /(<!-- framings:.*-->\n)[^]*(<!-- \/framings -->)/,
    (_, begin: string, end: string) => `${begin}\n${table}\n${end}`,
  );
}

/** Rows as a table of Markdown, its columns aligned as `deno fmt` does. */
function tableOf([head = [], ...rows]: readonly (readonly string[])[]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((row) => row[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |\n`;
  return line(head) + line(widths.map((width) => "-".repeat(width))) + rows.map(line).join("");
}

const TEXT_SCHEMA = { type: "string", minLength: 1 } as const;
const STEP = {
  send: { ...TEXT_SCHEMA, description: "sent first" },
  expect: { ...TEXT_SCHEMA, description: "what the server has to answer" },
  refuse: { ...TEXT_SCHEMA, description: "an answer that is a refusal" },
  timeoutMs: { type: "number", minimum: 1, description: "for the answer" },
} as const;
/** Only where something is expected there can be a refusal. */
const STEP_SCHEMA = {
  anyOf: [
    { ...objectOf({ send: STEP.send, timeoutMs: STEP.timeoutMs }), required: ["send"] },
    { ...objectOf(STEP), required: ["expect"] },
  ],
};

/** A JSON Schema, draft 7, of what `Sender.open` takes as JSON. */
export function optionsSchema(): Record<string, unknown> {
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "A sender of sendq",
    ...objectOf({
      $schema: { type: "string" },
      queue: { type: "string", minLength: 1, description: "the queue's file" },
      remote: {
        type: "string",
        pattern: "^(tcp|tls|listen)://",
        description: "the server: tcp://HOST:PORT, tls://HOST:PORT, listen://HOST:PORT",
      },
      queueOptions: objectOf(schemasOf(QUEUE_OPTIONS)),
      ...schemasOf(DELIVERY_OPTIONS),
      ...schemasOf(PACE_OPTIONS),
      session: objectOf({
        open: {
          type: "array",
          items: STEP_SCHEMA,
          description: "what each connection begins with",
        },
        heartbeat: {
          ...objectOf({
            send: { ...TEXT_SCHEMA, description: "sent in quiet times" },
            expect: { ...TEXT_SCHEMA, description: "what it is answered by" },
            ...schemasOf(HEARTBEAT_OPTIONS),
          }),
          required: ["send"],
        },
        close: { ...TEXT_SCHEMA, description: "sent before the connection is ended in order" },
        ...schemasOf(SESSION_OPTIONS),
      }),
      confirm: {
        anyOf: [{ const: "kernel" }, {
          ...objectOf({
            framing: { type: "string", description: "how answers are told apart" },
            accepted: { ...TEXT_SCHEMA, description: "what an answer begins with that accepts" },
            refused: { ...TEXT_SCHEMA, description: "what one begins with that refuses" },
            ...schemasOf(ANSWER_OPTIONS),
          }),
          required: ["framing", "accepted"],
        }],
        description: "what confirms a packet",
      },
      tls: objectOf(schemasOf(TLS_OPTIONS)),
      via: {
        anyOf: [TEXT_SCHEMA, { ...objectOf(schemasOf(VIA_OPTIONS)), required: ["url"] }],
        description: "the proxy that connections go through",
      },
      socket: objectOf({
        ...schemasOf(SOCKET_OPTIONS),
        keepAlive: { anyOf: [{ const: false }, objectOf(schemasOf(KEEP_ALIVE_OPTIONS))] },
      }),
    }),
    required: ["queue", "remote"],
  };
}

function objectOf(properties: Record<string, unknown>): Record<string, unknown> {
  return { type: "object", additionalProperties: false, properties };
}

function schemasOf(table: OptionTable): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(table).map(([name, spec]) => [name, {
      ...schemaOf(spec),
      // JSON has no Infinity.
      ...(spec.default === undefined || spec.default === Infinity ? {} : { default: spec.default }),
      description: spec.help,
    }]),
  );
}

function schemaOf(spec: OptionSpec): Record<string, unknown> {
  switch (spec.type) {
    case "choice":
      return { enum: spec.choices };
    case "switch":
      return { type: "boolean" };
    case "text":
      return { type: "string", minLength: 1 };
    case "texts":
      return { type: "array", items: { type: "string", minLength: 1 }, minItems: 1 };
    case "name":
      return { type: "string", pattern: "^[^\\s/:\\u0000]+$", maxLength: 15 };
    default: {
      const { min, max, aboveMin, fraction, step } = spec;
      return {
        type: fraction ? "number" : "integer",
        ...(aboveMin ? { exclusiveMinimum: min } : { minimum: min }),
        maximum: max,
        ...(step === undefined ? {} : { multipleOf: step }),
      };
    }
  }
}

/** A JSON Schema, draft 7, of a route file, as `sendq run` reads it. */
export function routeSchema(): Record<string, unknown> {
  const whole = {
    $schema: { type: "string" },
    ...Object.fromEntries(
      Object.entries(PROCESS).map(([name, field]) => [name, schemaOfField(field)]),
    ),
  };
  const route = schemaOfField(ROUTE);
  return {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "A route file of sendq",
    definitions: { route },
    if: { type: "object", required: ["routes"] },
    then: {
      ...objectOf({
        ...whole,
        routes: {
          type: "object",
          minProperties: 1,
          propertyNames: { pattern: ROUTE_NAME.source },
          additionalProperties: { $ref: "#/definitions/route" },
          description: "several senders in one process, each with a queue of its own",
        },
      }),
    },
    else: { ...route, properties: { ...whole, ...Object(route["properties"]) } },
  };
}

function schemaOfField(field: Field): Record<string, unknown> {
  if (field.kind === "value") return { ...field.schema, description: field.words };
  if (field.kind === "list") {
    return {
      type: "array",
      minItems: 1,
      items: schemaOfField(field.item),
      description: field.words,
    };
  }
  const { fields, required, oneOf, needs, orFalse, words } = field;
  const object = {
    ...objectOf(
      Object.fromEntries(Object.entries(fields).map(([name, it]) => [name, schemaOfField(it)])),
    ),
    description: words,
    ...(required === undefined ? {} : { required }),
    ...(oneOf === undefined ? {} : { anyOf: oneOf.map((name) => ({ required: [name] })) }),
    ...(needs === undefined
      ? {}
      : { dependencies: Object.fromEntries(needs.map(([name, other]) => [name, [other]])) }),
  };
  return orFalse === undefined ? object : { anyOf: [{ const: false }, object] };
}

/** The text of docs/route.schema.json. */
export function routeSchemaText(): string {
  return `${JSON.stringify(routeSchema(), null, 2)}\n`;
}

/** The text of docs/options.schema.json. */
export function optionsSchemaText(): string {
  return `${JSON.stringify(optionsSchema(), null, 2)}\n`;
}

if (import.meta.main) {
  Deno.writeTextFileSync(new URL("OPTIONS.md", import.meta.url), optionsPage());
  const protocols = new URL("PROTOCOLS.md", import.meta.url);
  Deno.writeTextFileSync(protocols, protocolsPage(Deno.readTextFileSync(protocols)));
  Deno.writeTextFileSync(new URL("options.schema.json", import.meta.url), optionsSchemaText());
  Deno.writeTextFileSync(new URL("route.schema.json", import.meta.url), routeSchemaText());
}
