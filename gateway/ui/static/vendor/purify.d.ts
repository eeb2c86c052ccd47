// What the page uses of DOMPurify, for the type checker.

declare const DOMPurify: { sanitize(dirty: string, rules: object): DocumentFragment };
export default DOMPurify;
