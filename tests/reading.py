"What a reader cannot read on a page in a browser: texts that are cut off, or that cover each other."

UNREADABLE = """() => {
    const problems = [], texts = [];
    const wide = document.scrollingElement.scrollWidth - innerWidth;
    if (wide > 0) problems.push(`the page is ${wide} pixels wider than the screen`);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode, parent = node.parentElement, words = node.data.trim();
        if (!words || parent.closest('script,style,title') || !parent.checkVisibility()) continue;
        const range = document.createRange();
        range.selectNodeContents(node);
        const holder = parent.closest('svg,.card,body').getBoundingClientRect();
        for (const box of range.getClientRects()) {
            if (box.width < 1) continue;
            const out = Math.max(holder.left - box.left, box.right - holder.right);
            if (out > 1) problems.push(`cut by ${Math.round(out)} pixels: ${words.slice(0, 60)}`);
            texts.push({box, words});
        }
    }
    texts.sort((one, other) => one.box.top - other.box.top);
    texts.forEach(({box, words}, i) => {
        for (let j = i + 1; j < texts.length && texts[j].box.top < box.bottom - 3; j++) {
            const other = texts[j].box;
            const beside = Math.min(box.right, other.right) - Math.max(box.left, other.left);
            const below = Math.min(box.bottom, other.bottom) - other.top;
            if (beside > 1 && below > 0.3 * Math.min(box.height, other.height))
                problems.push(`on each other: ${words.slice(0, 60)} | ${texts[j].words.slice(0, 60)}`);
        }
    });
    return problems;
}"""
