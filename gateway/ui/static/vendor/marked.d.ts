// What the page uses of marked, for the type checker.

export const marked: { parse(text: string, options: object): string };
