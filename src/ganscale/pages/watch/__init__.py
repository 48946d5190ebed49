"""`ganscale watch`: the runs of a folder side by side, as a page that follows them."""
