// style.js is made of explorer.css when the files are joined (bra/explorer/join.py).
export const STYLE: string;
