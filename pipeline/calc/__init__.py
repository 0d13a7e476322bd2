"""Pure calculations shared by two or more stages. Nothing here touches a file or a clock."""
