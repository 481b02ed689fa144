// style.js is made of explorer.css when the files are joined (bra/explorer/front_end.py).
export const STYLE: string;
