import type { OptionTable, ResolvedOptions } from "../../base/options.ts";

/**
 * What was given of a table's options.
 *
 * @param options Everything that was given.
 * @param prefix Stands before their names in it.
 */
export function givenOf<T extends OptionTable>(
  table: T,
  options: object,
  prefix?: string,
): Partial<ResolvedOptions<T>>;
export function givenOf(table: OptionTable, options: object, prefix = ""): Record<string, unknown> {
  const values = new Map<string, unknown>(Object.entries(options));
  return Object.fromEntries(
    Object.keys(table)
      .map((name) => [name, values.get(prefix + name)] as const)
      .filter(([, value]) => value !== undefined),
  );
}
