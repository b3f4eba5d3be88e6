/** Reads a route file: JSON with comments, in which every mistake has its line. */

import { normalize } from "node:path/posix";
import { InvalidArgumentError } from "commander";
import { isNear } from "../../base/options.ts";
import { formatHostPort, type Remote } from "../../base/remote.ts";
import type { Listen } from "../../permissions/permissions.ts";
import { isQueueUrl, parseQueueUrl } from "../../postgres/address.ts";
import { identityAt, mayLookAt } from "../../queue/sqlite/file_identity.ts";
import { isSpoolAddress, parseSpoolAddress } from "../../spool/address.ts";
import {
  findNodeAtLocation,
  getNodeValue,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from "jsonc-parser";
import {
  type Field,
  type Fields,
  type ListField,
  type ObjectField,
  PROCESS,
  ROUTE,
  ROUTE_NAME,
} from "./fields.ts";

/** A value that was read, and where it stands. */
export interface Placed {
  readonly value: unknown;
  readonly offset: number;
  /** `session.heartbeat.idleMs`. */
  readonly path: string;
}

/** Values by the names that the commands' options have for them. */
export type Values = ReadonlyMap<string, Placed>;

export interface ReadRoute {
  /** Undefined where the file has only one, without a name. */
  readonly name: string | undefined;
  /** Its own, and those of the process. */
  readonly values: Values;
  readonly offset: number;
}

export interface Problem {
  readonly offset: number;
  readonly words: string;
}

export interface RouteFile {
  readonly path: string;
  readonly text: string;
  /** With mistakes, only what could be read. */
  readonly routes: readonly ReadRoute[];
  /** What is for the whole process. */
  readonly process: Values;
  readonly problems: readonly Problem[];
}

/** `route.json:4:11: words`; lines and columns count from 1, columns in UTF-16 units. */
export function placed({ path, text }: RouteFile, { offset, words }: Problem): string {
  const before = text.slice(0, offset);
  const line = before.split("\n").length;
  const column = offset - before.lastIndexOf("\n");
  return `${path}:${line}:${column}: ${words}`;
}

export function readRouteFile(path: string, text: string): RouteFile {
  return new Reader(path, text.replace(/^\ufeff/, "")).read();
}

const SYNTAX: Readonly<Record<string, string>> = {
  InvalidSymbol: "this is no JSON; text stands in double quotes",
  InvalidNumberFormat: "this is no number",
  PropertyNameExpected: 'a name in double quotes is expected, or the closing "}"',
  ValueExpected: "a value is expected",
  ColonExpected: 'a ":" is expected before this',
  CommaExpected: 'a "," is expected before this',
  CloseBraceExpected: 'the closing "}" is missing',
  CloseBracketExpected: 'the closing "]" is missing',
  EndOfFileExpected: "the file should have ended before this",
  InvalidCommentToken: "this is no comment: // to the end of the line, or /* … */",
  UnexpectedEndOfComment: "the comment has no end",
  UnexpectedEndOfString: "the text has no closing quote on its line",
  UnexpectedEndOfNumber: "the number is not whole",
  InvalidUnicode: "\\u needs four hexadecimal digits",
  InvalidEscapeCharacter: 'there is no such escape in JSON; a backslash is written "\\\\"',
  InvalidCharacter: "a control character has to be written as an escape, such as \\n",
};

class Reader {
  readonly #path: string;
  readonly #text: string;
  readonly #problems: Problem[] = [];

  constructor(path: string, text: string) {
    this.#path = path;
    this.#text = text;
  }

  read(): RouteFile {
    const errors: ParseError[] = [];
    const root = parseTree(this.#text, errors, { allowTrailingComma: true });
    for (const { error, offset } of errors) {
      const code = printParseErrorCode(error);
      this.#problems.push({ offset, words: SYNTAX[code] ?? code });
    }
    const process = new Map<string, Placed>();
    // What is read of a text that is no JSON would only be more complaints about the same.
    const routes = errors.length > 0 || root === undefined ? [] : this.#routes(root, process);
    if (root === undefined && errors.length === 0) this.#complain(0, "the file is empty");
    this.#checkQueues(routes);
    this.#checkListens(routes);
    return {
      path: this.#path,
      text: this.#text,
      routes,
      process,
      problems: this.#problems.toSorted((a, b) => a.offset - b.offset),
    };
  }

  #routes(root: Node, process: Map<string, Placed>): ReadRoute[] {
    const $schema: Field = {
      kind: "value",
      words: "for editors",
      to: [],
      read: (value) => value,
      schema: {},
    };
    const own: Fields = { $schema, ...PROCESS };
    const list = root.type === "object" ? findNodeAtLocation(root, ["routes"]) : undefined;
    if (list === undefined) {
      const values = new Map<string, Placed>();
      this.#object(root, { ...ROUTE, fields: { ...own, ...ROUTE.fields } }, "", values);
      for (const [to, value] of values) if (isOfProcess(value.path)) process.set(to, value);
      return [{ name: undefined, values, offset: root.offset }];
    }
    const routes: ReadRoute[] = [];
    const all: ObjectField = { kind: "object", words: "", fields: own };
    this.#object(root, all, "", process, new Set(["routes"]));
    if (list.type !== "object" || (list.children ?? []).length === 0) {
      const what = list.type === "object" ? "not be empty" : "be an object";
      this.#complain(list.offset, `routes must ${what}: { "NAME": { … }, … }`);
      return [];
    }
    for (const { name, key, value } of this.#properties(list, "routes")) {
      if (!ROUTE_NAME.test(name)) {
        this.#complain(
          key.offset,
          `a route's name is made of letters, digits, "_", "-" and ".", at most 64`,
        );
      }
      const values = new Map<string, Placed>(process);
      this.#object(value, ROUTE, `routes.${name}`, values);
      routes.push({ name, values, offset: value.offset });
    }
    return routes;
  }

  /** Two senders cannot have one queue, and no file is a queue and a spool. */
  #checkQueues(routes: readonly ReadRoute[]): void {
    const seen: QueueIdentity[] = [];
    for (const { values } of routes) {
      const queue = values.get("queue");
      if (queue === undefined) continue;
      const own = identityOfQueue(String(queue.value));
      const inPlace = seen.filter(({ place }) => place === own.place);
      if (inPlace.some(({ name }) => name === own.name)) {
        this.#complain(queue.offset, `${queue.path} is another route's: each has one of its own`);
      } else if (inPlace.some(({ name }) => (name === undefined) !== (own.name === undefined))) {
        this.#complain(
          queue.offset,
          `${queue.path} is in another route's file: as a spool it has queues with names, ` +
            "spool:FILE#NAME, else one queue alone",
        );
      }
      seen.push(own);
    }
  }

  /** Who comes first to an address would get what is meant for the other route's server. */
  #checkListens(routes: readonly ReadRoute[]): void {
    const seen = new Map<string, string>();
    const page = routes[0]?.values.get("http");
    if (page !== undefined) seen.set(placeOfListen(page.value as TcpAddress), page.path);
    for (const { values } of routes) {
      for (const { address, offset, path } of listensOf(values)) {
        const place = placeOfListen(address);
        const other = seen.get(place);
        // Whoever has port 0 gets one that nobody has.
        if (other !== undefined && !/^tcp:.*:0$/.test(place)) {
          this.#complain(offset, `${path} has ${place}, where ${other} listens already`);
        }
        seen.set(place, path);
      }
    }
  }

  #object(
    node: Node,
    field: ObjectField,
    path: string,
    values: Map<string, Placed>,
    passed: ReadonlySet<string> = new Set(),
  ): void {
    if (field.orFalse !== undefined && node.type === "boolean" && node.value === false) {
      values.set(field.orFalse, { value: false, offset: node.offset, path });
      return;
    }
    const present = this.#present(node, field, path);
    const names = new Set(present.map(({ name }) => name));
    // Without what it needs the rest is looked at, and not taken: it would only be complained of.
    const isWhole = path === "" || (field.required ?? []).every((name) => names.has(name));
    const taken = isWhole ? values : new Map<string, Placed>();
    for (const { name, key, value } of present) {
      if (passed.has(name)) continue;
      const inner = within(path, name);
      const known = Object.hasOwn(field.fields, name) ? field.fields[name] : undefined;
      if (known === undefined) this.#unknown(key, name, path, field.fields);
      else this.#field(value, known, inner, taken);
    }
  }

  #field(node: Node, field: Field, path: string, values: Map<string, Placed>): void {
    if (field.kind === "object") return this.#object(node, field, path, values);
    const value = field.kind === "list"
      ? this.#list(node, field.item, path)
      : this.#value(node, field.read, path);
    if (value === undefined) return;
    for (const to of field.to) values.set(to, { value, offset: node.offset, path });
  }

  #value(node: Node, read: (value: unknown) => unknown, path: string): unknown {
    try {
      return read(getNodeValue(node));
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error;
      // The value itself is not repeated: it may be a password.
      const words = error.message.replace(/\.$/, "");
      this.#complain(
        node.offset,
        words.startsWith("It ")
          ? `${path} ${words.slice(3)}`
          : `${path}: ${words.charAt(0).toLowerCase()}${words.slice(1)}`,
      );
      return undefined;
    }
  }

  /** @returns `undefined` where anything in it is wrong. */
  #list(node: Node, item: ListField["item"], path: string): unknown {
    const problems = this.#problems.length;
    const { children = [] } = node;
    if (node.type !== "array" || children.length === 0) {
      const words = node.type === "array" ? "must not be empty" : "must be a list: [ … ]";
      this.#complain(node.offset, `${path} ${words}`);
      return undefined;
    }
    const items = children.map((child, index) => {
      const inner = `${path}[${index}]`;
      return item.kind === "value"
        ? this.#value(child, item.read, inner)
        : this.#record(child, item, inner);
    });
    return this.#problems.length > problems ? undefined : items;
  }

  /** An object as it is in a list: its values under their own names. */
  #record(node: Node, field: ObjectField, path: string): Record<string, unknown> {
    const record: Record<string, unknown> = {};
    for (const { name, key, value } of this.#present(node, field, path)) {
      const known = Object.hasOwn(field.fields, name) ? field.fields[name] : undefined;
      if (known?.kind === "value") record[name] = this.#value(value, known.read, `${path}.${name}`);
      else this.#unknown(key, name, path, field.fields);
    }
    return record;
  }

  /** The properties that are there, once it is known that none is missing. */
  #present(node: Node, field: ObjectField, path: string): Property[] {
    if (node.type !== "object") {
      const what = path === "" ? "a route file" : path;
      const off = field.orFalse === undefined ? "" : ", or false";
      this.#complain(node.offset, `${what} must be an object: { … }${off}`);
      return [];
    }
    const present = this.#properties(node, path);
    const names = new Set(present.map(({ name }) => name));
    const here = path === "" ? "" : `${path}: `;
    for (const name of field.required ?? []) {
      if (!names.has(name)) {
        const words = field.fields[name]?.words ?? "";
        this.#complain(node.offset, `${here}"${name}" is missing (${words})`);
      }
    }
    if (field.oneOf !== undefined && !field.oneOf.some((name) => names.has(name))) {
      const either = field.oneOf.map((name) => `"${name}"`).join(" or ");
      this.#complain(node.offset, `${here}${either} is missing`);
    }
    for (const [name, other] of field.needs ?? []) {
      if (names.has(name) && !names.has(other)) {
        this.#complain(node.offset, `${here}"${name}" needs "${other}"`);
      }
    }
    return present;
  }

  #properties(node: Node, path: string): Property[] {
    const seen = new Set<string>();
    return (node.children ?? []).flatMap(({ children: [key, value] = [] }) => {
      if (key === undefined || value === undefined) return [];
      const name = String(key.value);
      if (seen.has(name)) {
        this.#complain(key.offset, `"${path === "" ? name : `${path}.${name}`}" is there twice`);
        return [];
      }
      seen.add(name);
      return [{ name, key, value }];
    });
  }

  #unknown(key: Node, name: string, path: string, fields: Fields): void {
    const where = path === "" ? "here" : `in ${path}`;
    const [near] = Object.keys(fields).filter((known) => isNear(known, name));
    const places = near === undefined ? placesOf(name) : [];
    const hint = near !== undefined
      ? `; is ${near} meant?`
      : places.length > 0
      ? `; it belongs into ${places.join(" or ")}`
      : `; known are ${Object.keys(fields).filter((known) => known !== "$schema").join(", ")}`;
    this.#complain(key.offset, `there is no "${name}" ${where}${hint}`);
  }

  #complain(offset: number, words: string): void {
    this.#problems.push({ offset, words });
  }
}

interface Property {
  readonly name: string;
  readonly key: Node;
  readonly value: Node;
}

/** A queue, as other routes' queues are compared with it. */
interface QueueIdentity {
  /** The same for the same file, or for the same queue of a database. */
  readonly place: string;
  /** Which queue in a spool; undefined: the place has this one alone. */
  readonly name?: string;
}

/**
 * Of a queue on PostgreSQL the same whoever logs in, and in which order its servers are named; of
 * one in a file whatever leads to it, where this process may look.
 */
function identityOfQueue(queue: string): QueueIdentity {
  if (isQueueUrl(queue)) {
    const { hosts, database, name } = parseQueueUrl(queue);
    return {
      place: JSON.stringify([
        hosts.map(({ hostname, port }) => formatHostPort(hostname, port)).toSorted(),
        database,
        name,
      ]),
    };
  }
  if (!isSpoolAddress(queue)) return { place: placeOf(queue) };
  const { file, name } = parseSpoolAddress(queue);
  return { place: placeOf(file), name };
}

function placeOf(file: string): string {
  const path = normalize(file);
  return knownBy(path) ?? inDirectory(path) ?? path;
}

/** By its number, which a symbolic link shares. */
function knownBy(path: string): string | undefined {
  try {
    const found = mayLookAt(path) ? identityAt(path) : undefined;
    return found && `${found.dev}:${found.ino}`;
  } catch {
    return undefined; // Whoever opens it says why.
  }
}

/** One that is not there yet, by where it will be. */
function inDirectory(path: string): string | undefined {
  const at = path.lastIndexOf("/");
  const directory = knownBy(at < 0 ? "." : path.slice(0, at) || "/");
  return directory && `${directory}/${path.slice(at + 1)}`;
}

type TcpAddress = Omit<Extract<Listen, { readonly transport: "tcp" }>, "transport">;

/** Where a route listens: for clients, and for a server that connects to us. */
function listensOf(
  values: Values,
): { readonly address: TcpAddress | Listen; readonly offset: number; readonly path: string }[] {
  const listen = values.get("listen");
  const found = listen === undefined
    ? []
    : (listen.value as readonly Listen[]).map((address) => ({ ...listen, address }));
  const remote = values.get("remote");
  const server = remote?.value as Remote | undefined;
  return remote === undefined || server?.scheme === "unix" || server?.listen !== true
    ? found
    : [...found, { ...remote, address: server }];
}

function placeOfListen(address: TcpAddress | Listen): string {
  return "path" in address
    ? `unix:${normalize(address.path)}`
    : `tcp://${formatHostPort(address.hostname, address.port)}`;
}

function isOfProcess(path: string): boolean {
  return Object.keys(PROCESS).some((name) => path.startsWith(`${name}.`));
}

/** Where else a name is known. */
function placesOf(name: string): string[] {
  return [...fieldsIn()].filter(({ key }) => key === name)
    .map(({ path }) => path === "" ? "the route" : `"${path}"`);
}

/** Where a route file has what the commands' options call so. */
export function pathOf(to: string): string | undefined {
  for (const { key, path, field } of fieldsIn()) {
    if (field.kind !== "object" && field.to.includes(to)) return within(path, key);
  }
  return undefined;
}

/** @param path Of the object that the fields stand in. */
function* fieldsIn(
  fields: Fields = { ...ROUTE.fields, ...PROCESS },
  path = "",
): Generator<{ readonly key: string; readonly path: string; readonly field: Field }> {
  for (const [key, field] of Object.entries(fields)) {
    yield { key, path, field };
    if (field.kind === "object") yield* fieldsIn(field.fields, within(path, key));
  }
}

function within(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}
